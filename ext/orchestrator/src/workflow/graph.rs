//! The graph of a workflow: an order in which every parent comes first, levels, and cycles.
//!
//! Invariant: pure, without recursion, in time O(edges + nodes × log nodes). Neighbour: `definition` uses it once for
//! each version.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

/// The order of a graph without a cycle.
#[derive(Debug, PartialEq, Eq)]
pub struct Order {
    /// The nodes, parents first; among several possible next nodes, the one declared first.
    pub nodes: Vec<usize>,
    /// By node: 0 for roots, otherwise one more than the highest level of its parents.
    pub levels: Vec<u32>,
}

/// Orders the nodes `0..parents.len()`, given the parents of each.
///
/// # Errors
/// A path along a cycle, each node a child of the one before it and the first repeated at the end.
pub fn order(parents: &[Vec<usize>]) -> Result<Order, Vec<usize>> {
    let mut children = vec![Vec::new(); parents.len()];
    let mut pending_parents: Vec<usize> = parents.iter().map(Vec::len).collect();
    for (node, of_node) in parents.iter().enumerate() {
        for &parent in of_node {
            children[parent].push(node);
        }
    }
    let mut next: BinaryHeap<Reverse<usize>> =
        (0..parents.len()).filter(|&node| pending_parents[node] == 0).map(Reverse).collect();
    let mut nodes = Vec::with_capacity(parents.len());
    let mut levels = vec![0; parents.len()];
    while let Some(Reverse(node)) = next.pop() {
        nodes.push(node);
        for &child in &children[node] {
            levels[child] = levels[child].max(levels[node] + 1);
            pending_parents[child] -= 1;
            if pending_parents[child] == 0 {
                next.push(Reverse(child));
            }
        }
    }
    if nodes.len() == parents.len() {
        return Ok(Order { nodes, levels });
    }
    Err(cycle(parents, &pending_parents))
}

/// The nodes on the paths to `node`, without the node itself unless it is on a cycle.
pub fn ancestors(parents: &[Vec<usize>], node: usize) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    let mut next = parents[node].clone();
    while let Some(node) = next.pop() {
        if found.insert(node) {
            next.extend(&parents[node]);
        }
    }
    found
}

/// Walks up from a node that was not ordered: each such node has a parent that was not ordered, so the walk must reach
/// a node twice.
fn cycle(parents: &[Vec<usize>], pending_parents: &[usize]) -> Vec<usize> {
    let stuck = |node: &usize| pending_parents[*node] > 0;
    let mut seen_at = vec![None; parents.len()];
    let mut path = Vec::new();
    let mut node = (0..parents.len()).find(stuck);
    while let Some(current) = node {
        if let Some(start) = seen_at[current] {
            path.push(current);
            let mut cycle: Vec<usize> = path[start..].to_vec();
            cycle.reverse();
            return cycle;
        }
        seen_at[current] = Some(path.len());
        path.push(current);
        node = parents[current].iter().copied().find(|parent| stuck(parent));
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parents_come_first_and_declared_order_decides_between_equals() {
        type Case = (&'static [&'static [usize]], &'static [usize], &'static [u32]);
        let cases: [Case; 4] = [
            (&[&[], &[0], &[1]], &[0, 1, 2], &[0, 1, 2]),
            (&[&[], &[0], &[0], &[1, 2]], &[0, 1, 2, 3], &[0, 1, 1, 2]),
            (&[&[1], &[], &[0]], &[1, 0, 2], &[1, 0, 2]),
            (&[&[], &[], &[0, 1, 3], &[0]], &[0, 1, 3, 2], &[0, 0, 2, 1]),
        ];
        for (parents, nodes, levels) in cases {
            let parents: Vec<Vec<usize>> = parents.iter().map(|of_node| of_node.to_vec()).collect();
            let order = order(&parents).unwrap();
            assert_eq!((order.nodes.as_slice(), order.levels.as_slice()), (nodes, levels));
        }
    }

    #[test]
    fn a_cycle_is_reported_along_its_edges() {
        let parents = vec![vec![], vec![0, 3], vec![1], vec![2], vec![3]];
        assert_eq!(order(&parents).unwrap_err(), vec![1, 2, 3, 1]);
        assert_eq!(order(&[vec![0]]).unwrap_err(), vec![0, 0]);
    }

    #[test]
    fn ancestors_are_all_nodes_above() {
        let parents = vec![vec![], vec![0], vec![0], vec![1], vec![], vec![3, 4]];
        assert_eq!(Vec::from_iter(ancestors(&parents, 5)), [0, 1, 3, 4]);
        assert!(ancestors(&parents, 0).is_empty());
        assert_eq!(Vec::from_iter(ancestors(&[vec![1], vec![0]], 0)), [0, 1]);
    }

    #[test]
    fn a_chain_of_ten_thousand_needs_no_recursion() {
        let parents: Vec<Vec<usize>> =
            (0..10_000_usize).map(|node| node.checked_sub(1).into_iter().collect()).collect();
        assert_eq!(order(&parents).unwrap().levels[9_999], 9_999);
    }

    proptest! {
        #[test]
        fn any_graph_is_either_ordered_or_its_cycle_is_named(
            edges in proptest::collection::vec((0..30_usize, 0..30_usize), 0..60)
        ) {
            let mut parents = vec![Vec::new(); 30];
            for (child, parent) in edges {
                if !parents[child].contains(&parent) {
                    parents[child].push(parent);
                }
            }
            match order(&parents) {
                Ok(order) => {
                    let place = |node: usize| order.nodes.iter().position(|&other| other == node).unwrap();
                    for (node, of_node) in parents.iter().enumerate() {
                        for &parent in of_node {
                            prop_assert!(place(parent) < place(node));
                            prop_assert!(order.levels[parent] < order.levels[node]);
                        }
                    }
                }
                Err(cycle) => {
                    prop_assert_eq!(cycle.first(), cycle.last());
                    for pair in cycle.windows(2) {
                        prop_assert!(parents[pair[1]].contains(&pair[0]));
                    }
                }
            }
        }
    }
}
