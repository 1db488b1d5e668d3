//! The SQL functions of db/functions, each called directly on real data: results, errors, locks, what an interrupted
//! call leaves behind, and plans. A complete run fails when a function was never called
//! (`rakelib/called_functions.rb`).

#[path = "../support/mod.rs"]
mod support;

mod analytics_test;
mod atomicity_test;
mod bad_input_test;
mod catalogue_test;
mod claim_test;
mod counts_test;
mod create_test;
mod discovery_test;
mod dispatch_test;
mod fence_test;
mod finish_test;
mod listing_test;
mod lock_order_test;
mod maintenance_test;
mod operator_test;
mod outbox_test;
mod plans_test;
mod process_test;
mod reports_test;
mod session;
mod support_functions_test;
mod unreadable_test;
mod wide_workflow_test;
