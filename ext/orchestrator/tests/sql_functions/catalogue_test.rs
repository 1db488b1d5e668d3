//! Which tests are about which function. A function without a test fails here, and so does a test that is about none.

use std::collections::BTreeSet;
use std::fs::read_to_string;

use crate::support::{files, World};

/// Each function, and tests that would fail if it did something else; a test is named by a unique beginning of its name.
const CATALOGUE: &[(&str, &[&str])] = &[
    ("analytics", &["analytics_count"]),
    ("ancestor_results", &["results_of_all_steps_before", "results_come_in_parts"]),
    (
        "audit",
        &[
            "each_break_is_found",
            "audit_sees_a_step",
            "audit_sees_a_sequence",
            "an_audit_goes_through",
            "a_repair_keeps",
        ],
    ),
    (
        "cancel_task",
        &[
            "cancelling_ends",
            "a_cancellation_and_a_finish",
            "a_cancellation_finds",
            "in_a_transaction_with_one_snapshot",
            "a_cancellation_locks",
        ],
    ),
    ("check_result", &["a_result_that_no_handler"]),
    ("claim_error", &["only_what_the_database", "a_sweep_of_one_step", "a_step_of_a_damaged_task"]),
    (
        "claim_steps",
        &[
            "a_claim_carries",
            "the_smallest_priority",
            "a_claim_that_finds_nothing",
            "a_process_that_is_not_registered",
            "a_claim_takes",
            "a_batch_is_filled",
            "sixteen_sessions",
            "one_session_claims",
        ],
    ),
    ("clock_leap", &["a_living_process_keeps_its_claims"]),
    ("describe_claims", &["a_claim_carries", "a_lean_claim"]),
    ("complete_step", &["resolving_or_completing", "a_step_can_be_ended_by_hand", "a_finish_waits_for_the_verb"]),
    (
        "create_tasks",
        &[
            "a_created_task_has",
            "a_task_of_an_unknown_version",
            "a_key_creates",
            "a_key_with_another_input",
            "a_key_that_is_being_taken",
            "a_version_that_is_missing",
            "fifty_sessions",
            "what_a_transaction_did",
        ],
    ),
    ("current_time", &["the_clock_is"]),
    ("dependency_levels", &["levels_are"]),
    ("deregister_process", &["a_process_is_entered"]),
    ("drop_subscription", &["a_subscription_begins"]),
    (
        "ack_events",
        &["one_living_process", "an_event_that_fails", "a_function_that_fails", "a_function_whose_backend"],
    ),
    ("override_step", &["ending_a_step_by_hand", "the_parts_of_the_verbs"]),
    ("find_tasks", &["the_newest_tasks_that", "a_state_finds", "pages_follow", "a_page_looks", "a_list_reads"]),
    (
        "finish_steps",
        &[
            "a_batch_of_all_kinds",
            "an_outcome_that_nobody_knows",
            "a_process_that_was_given_up",
            "a_task_in_which_nothing",
            "a_finish_and_a_release",
            "hands_that_do_everything",
            "a_finish_locks",
            "a_delay_that_a_handler",
        ],
    ),
    ("claim_scan_start", &["a_look_begins"]),
    ("waiting_scan_start", &["a_look_begins"]),
    ("return_claims", &["a_claim_that_is_given_back", "a_finish_and_a_release", "a_release_locks"]),
    ("heartbeat", &["a_heartbeat_tells", "a_living_process_keeps_its_claims", "what_the_database_has_forgotten_gives"]),
    ("held_claims", &["a_claim_is_held_by_all_that_names_it"]),
    ("lock_step", &["an_unknown_task_or_step", "the_parts_of_the_verbs"]),
    ("next_task", &["a_chore_passes"]),
    ("next_token", &["tokens_rise"]),
    ("save_scan_mark", &["a_look_begins"]),
    (
        "insert_claims",
        &["a_claim_carries", "a_lean_claim", "a_refusal_has", "a_function_that_fails", "a_step_is_claimed"],
    ),
    ("insert_readable_claims", &["a_step_of_a_damaged_task", "only_what_the_database"]),
    (
        "prune",
        &["retention_removes", "retention_leaves", "retention_and_a_reset", "retention_by_two", "no_table_grows"],
    ),
    ("ready_scan_starts", &["a_look_begins", "no_statement_of_a_function"]),
    ("scan_mark", &["a_look_begins"]),
    ("record_event", &["who_and_why", "the_parts_of_the_verbs"]),
    ("raise_error", &["a_refusal_has"]),
    ("register_process", &["a_process_is_entered", "a_new_registration_takes_over"]),
    ("register_subscriptions", &["a_subscription_begins"]),
    ("register_workflow", &["a_version_is_stored", "a_version_that_somebody_else"]),
    ("release_step", &["a_step_is_taken_from_its_process"]),
    ("release_steps", &["a_claim_is_held_by_all_that_names_it", "a_function_whose_backend"]),
    ("trim_outbox", &["writers_at_once", "one_living_process"]),
    ("repair_task", &["each_break_is_found", "a_repair_keeps"]),
    ("reset_attempts", &["a_reset_gives", "two_operators", "operators_lock"]),
    ("reset_step", &["a_reset_gives", "two_operators", "retention_and_a_reset"]),
    ("resolve_step", &["resolving_or_completing", "a_step_can_be_ended_by_hand", "two_operators"]),
    ("resolve_task", &["a_task_that_ended_with_an_error", "two_operators", "operators_lock"]),
    ("requeue_failed_steps", &["a_reset_gives", "the_parts_of_the_verbs", "a_step_that_begins_anew"]),
    ("retry_delay", &["a_retry_waits"]),
    ("retry_now", &["a_step_that_waits_is_made_ready"]),
    ("lock_and_clear_task", &["the_parts_of_the_verbs", "a_cancellation_finds", "a_cancellation_locks"]),
    ("server_identity", &["a_server_and_its_course"]),
    ("set_aside", &["a_step_of_a_damaged_task", "a_sweep_keeps_a_step_aside", "operators_act_on_a_step"]),
    (
        "advance_tasks",
        &[
            "a_child_of_two_parents",
            "a_ready_child",
            "a_process_keeps",
            "a_task_in_which_nothing",
            "the_parts_of_the_verbs",
            "children_are_locked",
        ],
    ),
    ("skip_event", &["an_event_that_fails", "an_event_with_a_textual_task_id"]),
    ("slowest_steps", &["the_slowest_steps"]),
    ("slowest_tasks", &["the_slowest_tasks"]),
    ("step_attempts", &["what_runs_is_an_attempt"]),
    ("step_readiness", &["readiness_recomputed", "an_answer_about_one_task"]),
    ("step_states", &["a_task_stands", "what_runs_is_an_attempt", "readiness_recomputed", "an_answer_about_one_task"]),
    ("store_events", &["an_event_comes", "writers_at_once"]),
    ("subscription_health", &["an_event_that_fails"]),
    ("sweep", &["a_sweep_ends", "a_sweep_takes", "sweeps_at_once"]),
    ("system_health", &["health_tells"]),
    ("fetch_events", &["an_event_comes", "writers_at_once", "one_living_process", "a_fetch_is_bounded"]),
    ("task_execution_context", &["a_task_stands", "an_answer_about_one_task"]),
    ("task_execution_contexts", &["several_tasks_stand", "what_runs_is_an_attempt", "the_gravest_wait"]),
    ("task_input", &["a_lean_claim"]),
    ("tasks_with_status", &["a_status_finds"]),
    ("build_events", &["what_happens_is_told"]),
    ("operator_event", &["what_happens_is_told"]),
    ("unused_versions", &["a_version_stays", "retention_does_not_change", "retention_in_a_transaction"]),
    ("update_step_result", &["a_replaced_result", "sizes_are_stored"]),
    ("uuid_v7", &["a_uuid_tells"]),
    ("uuid_v7_floor", &["a_uuid_tells"]),
    ("wake_workers", &["only_queues"]),
    ("subscribed_event_names", &["a_subscription_begins"]),
    ("delete_live_rows", &["the_parts_of_the_verbs", "a_cancellation_finds"]),
    ("workflow_definition", &["a_lean_claim"]),
    ("older_writer_exists", &["an_event_comes", "writers_at_once", "who_writes_in_another"]),
];

/// Names of the tests of this target but for those of this file.
fn tests() -> BTreeSet<String> {
    let mut tests = BTreeSet::new();
    for path in files("tests/sql_functions", "_test.rs") {
        if path.ends_with("catalogue_test.rs") {
            continue;
        }
        let source = read_to_string(path).unwrap();
        let names = source.split("#[test]\nfn ").skip(1).map(|rest| rest.split('(').next().unwrap().to_owned());
        tests.extend(names);
    }
    tests
}

#[test]
fn every_function_has_a_test_and_every_test_is_about_a_function() {
    let functions: BTreeSet<String> = files("../../db/functions", ".sql")
        .iter()
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let listed: BTreeSet<String> = CATALOGUE.iter().map(|(function, _)| (*function).to_owned()).collect();
    assert_eq!(listed, functions, "the catalogue lists the files of db/functions, each once");
    assert_eq!(listed.len(), CATALOGUE.len());

    let tests = tests();
    let mut about = BTreeSet::new();
    for (function, beginnings) in CATALOGUE {
        assert!(!beginnings.is_empty(), "{function} has no test");
        for beginning in *beginnings {
            let named: Vec<&String> = tests.iter().filter(|test| test.starts_with(beginning)).collect();
            assert_eq!(named.len(), 1, "{function}: tests that begin with {beginning}: {named:?}");
            about.insert(named[0].clone());
        }
    }
    let idle: Vec<&String> = tests.difference(&about).collect();
    assert!(idle.is_empty(), "about no function: {idle:?}");
}

#[test]
fn what_is_installed_are_the_files_each_with_one_function_of_its_name_and_a_comment_of_its_purpose() {
    World::run(|world| async move {
        let sql = "select proname::text from pg_proc where pronamespace = 'tasker_core_v1'::regnamespace order by 1";
        let installed: Vec<String> = sqlx::query_scalar(sql).fetch_all(&world.pool).await.unwrap();
        let mut listed: Vec<&str> = CATALOGUE.iter().map(|(function, _)| *function).collect();
        listed.sort_unstable();
        assert_eq!(installed, listed);
        for path in files("../../db/functions", ".sql") {
            let source = read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(source.starts_with("-- "), "{name}.sql opens with what it is for");
            assert_eq!(source.matches("create function").count(), 1, "{name}.sql");
            assert!(source.contains(&format!("create function tasker_core_v1.{name}(")), "{name}.sql");
        }
    });
}
