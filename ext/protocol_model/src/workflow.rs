//! The graphs that the model runs: small ones that together cover every way in which a step can become ready.

/// A step of the workflow, by its place in the order of steps.
pub type Position = u8;

#[derive(Debug, Clone, Copy)]
pub struct Workflow {
    /// The parents of each step, by position.
    pub parents: &'static [&'static [Position]],
    pub max_attempts: u8,
}

impl Workflow {
    pub const STEP: Self = Self { parents: &[&[]], max_attempts: 2 };
    pub const PATIENT_STEP: Self = Self { parents: &[&[]], max_attempts: 3 };
    pub const CHAIN: Self = Self { parents: &[&[], &[0]], max_attempts: 2 };
    pub const LONG_CHAIN: Self = Self { parents: &[&[], &[0], &[1]], max_attempts: 2 };
    pub const PAIR: Self = Self { parents: &[&[], &[]], max_attempts: 2 };
    pub const JOIN: Self = Self { parents: &[&[], &[], &[0, 1]], max_attempts: 2 };
    pub const FORK: Self = Self { parents: &[&[], &[0], &[0]], max_attempts: 2 };
    pub const DIAMOND: Self = Self { parents: &[&[], &[0], &[0], &[1, 2]], max_attempts: 1 };

    pub fn positions(&self) -> impl Iterator<Item = Position> {
        0..self.parents.len() as Position
    }

    pub fn parents(&self, position: Position) -> &'static [Position] {
        self.parents[usize::from(position)]
    }

    pub fn children(&self, position: Position) -> impl Iterator<Item = Position> + '_ {
        self.positions().filter(move |child| self.parents(*child).contains(&position))
    }
}
