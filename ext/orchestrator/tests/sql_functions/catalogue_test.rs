//! Which tests are about which function. A function without a test fails here, and so does a test that is about none.

use std::collections::BTreeSet;
use std::fs::read_to_string;

use crate::support::{files, World};

/// Each function, and tests that would fail if it did something else; a test is named by a unique beginning of its name.
const CATALOGUE: &[(&str, &[&str])] = &[
    ("analytics", &["analytics_count_tasks_and_attempts_with_duration_percentiles"]),
    ("ancestor_results", &["results_of_ancestors_only_are_returned_by_name", "results_come_in_parts"]),
    (
        "audit",
        &[
            "each_broken_invariant_is_found_explained_and_repaired",
            "audit_sees_a_step",
            "audit_sees_a_sequence",
            "an_audit_goes_through",
            "a_repair_keeps_waiting_times_and_removes_orphaned_rows",
        ],
    ),
    (
        "cancel_task",
        &[
            "cancelling_ends_every_open_step_and_revokes_its_claim",
            "a_cancellation_and_a_finish_of_one_step_serialize",
            "a_cancellation_finds_live_rows_that_moved_while_it_waited",
            "an_action_in_one_snapshot_fails_rather_than_miss_a_row",
            "a_cancellation_locks_claims_then_steps_then_the_task",
        ],
    ),
    ("check_result", &["a_result_that_no_handler_could_return_is_rejected"]),
    ("claim_error", &["only_what_the_database", "a_sweep_of_one_step", "a_step_of_a_damaged_task"]),
    (
        "claim_steps",
        &[
            "a_claim_carries_all",
            "steps_are_claimed_by_priority_then_age_across_queues",
            "an_empty_claim_marks_its_process_idle_and_a_full_one_busy",
            "a_process_that_is_not_registered",
            "a_claim_skips_rows_that_others_have_locked",
            "a_claim_skips_locked_rows_and_fills_up_from_other_queues",
            "sixteen_sessions_claim_five_thousand_steps_once_each",
            "one_session_claims_by_priority_and_age_across_queues",
        ],
    ),
    ("clock_leap", &["a_clock_leap_costs_dead_processes_only_their_claims"]),
    ("find_versions", &["a_task_of_an_unknown_version", "a_missing_or_different_version"]),
    ("take_idempotency_keys", &["a_key_creates_one_task", "a_key_that_is_being_taken"]),
    ("check_idempotency_keys", &["a_key_with_another_input"]),
    ("parent_results", &["a_claim_carries_payloads_up_to_its_share_and_defers_others"]),
    ("enqueue_steps", &["a_sweep_takes_due_steps_oldest_first_in_bounded_batches"]),
    ("step_event", &["each_event_is_stored_in_its_transaction_with_all_fields"]),
    ("describe_claims", &["a_claim_carries_all", "a_claim_carries_payloads_up_to_its_share_and_defers_others"]),
    (
        "complete_step",
        &[
            "resolving_or_completing_a_failed_step_resumes_the_task",
            "a_step_can_be_overridden_only_before_it_starts",
            "a_finish_waits_for_the_action_on_its_child_and_both_count",
        ],
    ),
    (
        "create_tasks",
        &[
            "a_created_task_has_all_steps_and_its_roots_ready_or_waiting",
            "a_task_of_an_unknown_version_rejects_its_whole_batch",
            "a_key_creates_one_task_per_workflow_and_returns_it_later",
            "a_key_with_another_input_is_rejected_with_the_first_task",
            "a_key_that_is_being_taken",
            "a_missing_or_different_version_returns_null_on_request",
            "fifty_concurrent_sessions_create_each_task_once",
            "a_rejection_leaves_earlier_work_committable",
        ],
    ),
    ("current_time", &["the_clock_is"]),
    ("dependency_levels", &["levels_are"]),
    ("deregister_process", &["a_process_registers_and_releases_its_claims_on_leaving"]),
    ("end_waits", &["a_retry_of_a_task_ends_its_waits", "the_helpers_of_operator_actions_do_their_part"]),
    ("drop_subscription", &["a_subscription_lasts_from_registration_until_it_is_dropped"]),
    (
        "ack_events",
        &[
            "one_living_process",
            "a_failing_event_blocks_later_ones_until_done_or_skipped",
            "a_function_that_fails_at_any_write_leaves_no_trace",
            "a_killed_backend_leaves_no_trace_and_can_be_retried",
        ],
    ),
    (
        "override_step",
        &["an_override_races_safely_with_claims_and_releases", "the_helpers_of_operator_actions_do_their_part"],
    ),
    ("end_lost_attempts", &["a_lost_attempt_that_cannot_be_ended", "only_an_error_of_its_rows"]),
    ("readable_error", &["an_error_that_cannot_be_read"]),
    ("fits_if_readable", &["a_list_shows_tasks"]),
    (
        "find_tasks",
        &[
            "a_list_shows_tasks",
            "the_newest_tasks_that",
            "a_state_filter_finds_the_tasks_in_that_state",
            "pages_follow_without_gaps_up_to_the_last",
            "a_page_scans_up_to_its_limit_and_returns_a_cursor",
            "a_list_reads_only_the_tasks_it_shows_under_every_filter",
        ],
    ),
    (
        "finish_steps",
        &[
            "a_batch_of_mixed_outcomes_follows_each_retry_policy",
            "an_unknown_outcome_does_not_affect_its_batch",
            "a_process_given_up",
            "a_task_in_which_nothing",
            "a_finish_and_a_release_of_one_claim_serialize_and_one_wins",
            "concurrent_actors_never_deadlock_and_keep_every_state_sound",
            "a_finish_locks",
            "a_delay_that_a_handler",
        ],
    ),
    ("claim_scan_start", &["a_scan_starts_at_the_first_row_or_the_last_marks"]),
    ("waiting_scan_start", &["a_scan_starts_at_the_first_row_or_the_last_marks"]),
    (
        "return_claims",
        &[
            "a_claim_that_is_given_back",
            "a_finish_and_a_release_of_one_claim_serialize_and_one_wins",
            "a_release_locks",
        ],
    ),
    (
        "heartbeat",
        &[
            "a_heartbeat_returns_revoked_tokens_and_releases_lost_claims",
            "a_clock_leap_costs_dead_processes_only_their_claims",
            "a_claim_lost_in_a_restore_gives_no_right_to_its_successor",
        ],
    ),
    ("held_claims", &["a_claim_is_held_by_all_that_names_it"]),
    (
        "lock_queued_steps",
        &[
            "a_claim_skips_rows_that_others_have_locked",
            "a_claim_skips_locked_rows_and_fills_up_from_other_queues",
            "one_session_claims_by_priority_and_age_across_queues",
        ],
    ),
    ("lock_step", &["every_action_rejects_an_unknown_task_or_step", "the_helpers_of_operator_actions_do_their_part"]),
    ("next_task", &["a_chore_passes"]),
    ("next_token", &["tokens_rise_and_never_repeat_after_a_sequence_reset"]),
    ("save_scan_mark", &["a_scan_starts_at_the_first_row_or_the_last_marks"]),
    (
        "insert_claims",
        &[
            "a_claim_carries_all",
            "a_claim_carries_payloads_up_to_its_share_and_defers_others",
            "a_refusal_has",
            "a_function_that_fails_at_any_write_leaves_no_trace",
            "a_step_of_a_wide_workflow_is_handled_without_its_siblings",
        ],
    ),
    ("insert_readable_claims", &["a_step_of_a_damaged_task", "only_what_the_database"]),
    (
        "prune",
        &[
            "retention_removes_exactly_what_its_dry_run_counts",
            "retention_keeps_open_and_recent_tasks_and_resumes",
            "retention_and_a_reset_of_one_task_serialize",
            "retention_by_two",
            "no_table_grows",
        ],
    ),
    (
        "ready_scan_starts",
        &["a_scan_starts_at_the_first_row_or_the_last_marks", "no_statement_reads_a_whole_table_under_any_statistics"],
    ),
    ("scan_mark", &["a_scan_starts_at_the_first_row_or_the_last_marks"]),
    (
        "record_event",
        &["every_action_requires_a_reason_and_an_operator", "the_helpers_of_operator_actions_do_their_part"],
    ),
    ("raise_error", &["a_refusal_has"]),
    (
        "register_process",
        &[
            "a_process_registers_and_releases_its_claims_on_leaving",
            "a_new_registration_takes_over_its_claims_and_releases_others",
        ],
    ),
    ("register_subscriptions", &["a_subscription_lasts_from_registration_until_it_is_dropped"]),
    (
        "register_workflow",
        &["a_version_is_stored_once_and_rejected_with_other_content", "a_registration_waits_for_a_concurrent_one"],
    ),
    ("release_step", &["a_step_is_released_from_its_process_after_pending_statements"]),
    ("release_steps", &["a_claim_is_held_by_all_that_names_it", "a_killed_backend_leaves_no_trace_and_can_be_retried"]),
    ("trim_outbox", &["concurrent_writers_lose_no_event_and_keep_each_tasks_order", "one_living_process"]),
    (
        "repair_task",
        &[
            "each_broken_invariant_is_found_explained_and_repaired",
            "a_repair_keeps_waiting_times_and_removes_orphaned_rows",
        ],
    ),
    (
        "retry_task",
        &[
            "a_retry_restores_all_attempts_of_failed_steps",
            "a_retry_of_a_task_ends_its_waits",
            "two_operators",
            "operators_lock",
            "a_retry_locks_waiting_steps",
        ],
    ),
    (
        "retry_step",
        &[
            "a_step_that_waits_is_made_ready",
            "a_retry_of_a_step_is_rejected",
            "a_retry_restores_all_attempts_of_failed_steps",
            "two_operators",
            "retention_and_a_reset_of_one_task_serialize",
        ],
    ),
    (
        "resolve_step",
        &[
            "resolving_or_completing_a_failed_step_resumes_the_task",
            "a_step_can_be_overridden_only_before_it_starts",
            "two_operators",
        ],
    ),
    ("resolve_task", &["a_failed_task_is_resolved_once_and_then_stays", "two_operators", "operators_lock"]),
    (
        "requeue_failed_steps",
        &[
            "a_retry_restores_all_attempts_of_failed_steps",
            "the_helpers_of_operator_actions_do_their_part",
            "a_step_that_begins_anew",
        ],
    ),
    ("retry_delay", &["a_retry_waits_by_its_policy_up_to_its_cap"]),
    (
        "lock_and_clear_task",
        &[
            "the_helpers_of_operator_actions_do_their_part",
            "a_cancellation_finds_live_rows_that_moved_while_it_waited",
            "a_cancellation_locks_claims_then_steps_then_the_task",
        ],
    ),
    ("row_error", &["errors_of_a_row"]),
    ("server_identity", &["a_role_without_rights_can_read_the_server_identity"]),
    ("set_aside", &["a_step_of_a_damaged_task", "a_sweep_keeps_a_step_aside", "operators_act_on_a_step"]),
    (
        "advance_tasks",
        &[
            "a_child_of_two_parents",
            "a_ready_child_fills_a_free_slot_unless_others_are_urgent",
            "a_process_keeps_ready_children_up_to_its_limit",
            "a_task_in_which_nothing",
            "the_helpers_of_operator_actions_do_their_part",
            "children_are_locked",
        ],
    ),
    ("skip_event", &["a_failing_event_blocks_later_ones_until_done_or_skipped", "an_event_with_a_textual_task_id"]),
    ("slowest_steps", &["the_slowest_steps_come_first_with_their_outcomes"]),
    ("slowest_tasks", &["the_slowest_tasks_come_first_with_open_ones_counted_to_now"]),
    ("step_attempts", &["what_runs_is_an_attempt"]),
    (
        "step_readiness",
        &["recomputed_readiness_matches_every_intermediate_state", "a_report_on_one_task_is_planned_inline"],
    ),
    (
        "step_states",
        &[
            "a_tasks_status_is_that_of_its_worst_step",
            "what_runs_is_an_attempt",
            "recomputed_readiness_matches_every_intermediate_state",
            "a_report_on_one_task_is_planned_inline",
        ],
    ),
    ("store_events", &["an_event_comes", "concurrent_writers_lose_no_event_and_keep_each_tasks_order"]),
    ("subscription_health", &["a_failing_event_blocks_later_ones_until_done_or_skipped"]),
    (
        "sweep",
        &[
            "a_sweep_ends_attempts_with_an_expired_lease_or_process",
            "a_sweep_takes_due_steps_oldest_first_in_bounded_batches",
            "concurrent_sweeps_share_the_work_without_waiting",
        ],
    ),
    ("system_health", &["health_counts_ready_claimed_and_waiting_steps_and_processes"]),
    (
        "fetch_events",
        &[
            "an_event_comes",
            "concurrent_writers_lose_no_event_and_keep_each_tasks_order",
            "one_living_process",
            "a_fetch_is_bounded",
        ],
    ),
    ("task_execution_context", &["a_tasks_status_is_that_of_its_worst_step", "a_report_on_one_task_is_planned_inline"]),
    (
        "task_execution_contexts",
        &["several_statuses_at_once_equal_each_one_alone", "what_runs_is_an_attempt", "the_gravest_wait"],
    ),
    ("task_input", &["a_claim_carries_payloads_up_to_its_share_and_defers_others"]),
    ("tasks_with_status", &["a_status_finds"]),
    ("build_events", &["each_event_is_stored_in_its_transaction_with_all_fields"]),
    ("operator_event", &["each_event_is_stored_in_its_transaction_with_all_fields"]),
    (
        "unused_versions",
        &[
            "a_version_stays_while_newest_in_use_or_about_to_be_used",
            "unused_versions_are_removed_in_bounded_parts",
            "retention_leaves_the_calling_transactions_settings_alone",
            "retention_in_one_snapshot_keeps_a_version_with_a_new_task",
        ],
    ),
    ("update_result", &["a_replaced_result_reaches_children_that_start_later", "sizes_are_stored"]),
    ("uuid_v7", &["a_uuid_encodes_its_millisecond_and_sorts_after_its_floor"]),
    ("uuid_v7_floor", &["a_uuid_encodes_its_millisecond_and_sorts_after_its_floor"]),
    ("wake_workers", &["only_queues_with_an_idle_process_are_notified_once_each"]),
    ("subscribed_event_names", &["a_subscription_lasts_from_registration_until_it_is_dropped"]),
    (
        "delete_live_rows",
        &["the_helpers_of_operator_actions_do_their_part", "a_cancellation_finds_live_rows_that_moved_while_it_waited"],
    ),
    ("workflow_definition", &["a_claim_carries_payloads_up_to_its_share_and_defers_others"]),
    (
        "older_writer_exists",
        &[
            "an_event_comes",
            "concurrent_writers_lose_no_event_and_keep_each_tasks_order",
            "writers_of_other_databases_do_not_delay_events",
        ],
    ),
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
fn every_file_installs_one_documented_function_of_its_name() {
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
