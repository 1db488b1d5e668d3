//! What callers do from Rust: create tasks (`task_initializer`) and operate on them (`operator`).

pub mod operator;
pub mod task_initializer;
