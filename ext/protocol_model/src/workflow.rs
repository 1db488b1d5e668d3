//! The graphs that the model runs: small ones that together cover every way in which a step can become ready.

/// A step of the workflow, by its place in the order of steps.
pub type Position = u8;

#[derive(Debug, Clone, Copy)]
pub struct Workflow {
    /// The parents of each step, by position.
    pub parents: &'static [&'static [Position]],
    pub max_attempts: u8,
    /// The steps that run as jobs of the application's queue.
    pub jobs: &'static [Position],
}

impl Workflow {
    pub const STEP: Self = Self::new(&[&[]], 2);
    pub const PATIENT_STEP: Self = Self::new(&[&[]], 3);
    pub const CHAIN: Self = Self::new(&[&[], &[0]], 2);
    pub const LONG_CHAIN: Self = Self::new(&[&[], &[0], &[1]], 2);
    pub const PAIR: Self = Self::new(&[&[], &[]], 2);
    pub const JOIN: Self = Self::new(&[&[], &[], &[0, 1]], 2);
    pub const FORK: Self = Self::new(&[&[], &[0], &[0]], 2);
    pub const DIAMOND: Self = Self::new(&[&[], &[0], &[0], &[1, 2]], 1);

    const fn new(parents: &'static [&'static [Position]], max_attempts: u8) -> Self {
        Self { parents, max_attempts, jobs: &[] }
    }

    /// The same graph, with steps that run as jobs.
    pub const fn with_jobs(self, jobs: &'static [Position]) -> Self {
        Self { jobs, ..self }
    }

    pub fn runs_as_job(&self, position: Position) -> bool {
        self.jobs.contains(&position)
    }

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
