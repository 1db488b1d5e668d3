//! The SQL functions of db/functions, each called directly on real data: results, errors, locks, what an interrupted call
//! leaves behind, and plans. A complete run fails when a function was never called (`rakelib/called_functions.rb`).

#[path = "../support/mod.rs"]
mod support;

mod analytics_test;
mod atomicity_test;
mod bad_input_test;
mod catalogue_test;
mod discovery_test;
mod fence_test;
mod listing_test;
mod lock_order_test;
mod maintenance_test;
mod operator_test;
mod outbox_test;
mod plans_test;
mod session;
mod unreadable_test;
mod wide_workflow_test;
mod workflow_execution_test;
