//! Whole workflows on a real database: the scenarios, and every transition that may happen.

#[path = "../support/mod.rs"]
mod support;

mod bounds_test;
mod clock_test;
mod complex_workflow_test;
mod dispatch_test;
mod events_test;
mod handler_test;
mod logs_test;
mod settings_test;
mod states;
mod transitions_test;
