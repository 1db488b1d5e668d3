//! The number of rows in one statement: halved after an overload, and increased slowly while statements succeed.
//!
//! Invariant: never less than one, never more than the settings allow. Neighbours: the dispatcher has limits for
//! claims, outcomes and releases, maintenance one for each chore.

/// A number of rows that is halved and grows back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    max: usize,
    current: usize,
}

impl Limit {
    /// Starts at the maximum.
    pub fn new(max: usize) -> Self {
        let max = max.max(1);
        Self { max, current: max }
    }

    pub fn current(self) -> usize {
        self.current
    }

    pub fn is_reduced(self) -> bool {
        self.current < self.max
    }

    /// Halves the limit after a statement with `tried` rows was too much.
    pub fn halve(&mut self, tried: usize) {
        self.current = self.current.min((tried / 2).max(1));
    }

    /// Increases the limit after a statement that succeeded.
    pub fn grow(&mut self) {
        self.current = (self.current + self.current.div_ceil(4)).min(self.max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_halved_to_one_and_grows_back_to_its_maximum() {
        let mut limit = Limit::new(200);
        for (tried, left) in [(200, 100), (40, 20), (300, 20), (3, 1), (1, 1)] {
            limit.halve(tried);
            assert_eq!(limit.current(), left, "after {tried}");
        }
        assert!(limit.is_reduced());
        let grown: Vec<usize> = std::iter::repeat_with(|| {
            limit.grow();
            limit.current()
        })
        .take(25)
        .collect();
        assert_eq!(grown[..8], [2, 3, 4, 5, 7, 9, 12, 15]);
        assert_eq!(grown.last(), Some(&200));
        assert!(!limit.is_reduced());
    }
}
