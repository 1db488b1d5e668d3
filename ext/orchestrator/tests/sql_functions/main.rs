//! The SQL functions of db/functions, each called by hand on real data: what it answers, refuses and locks, what is left when
//! it is cut off, and how it is planned. `catalogue_test` says which test is about which function.

#[path = "../support/mod.rs"]
mod support;

mod analytics_test;
mod atomicity_test;
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
