//! Lists of tasks: filters, pages, and reports on several tasks at once.

use serde_json::{json, Value};

use crate::session::{completed, failed_for_good, quoted, register, stop_the_clock, text, Session};
use crate::support::{workflow, World};

/// The tasks of a small history, in the order of their creation, a minute apart.
struct History {
    session: Session,
    tasks: Vec<i64>,
}

const CORRELATION: &str = "0190163d-8694-739b-aea5-966c26f8ad91";

/// Twelve tasks of three workflow versions, in every state that a task can be in.
async fn history(world: &World) -> History {
    stop_the_clock(world).await;
    let mut session = Session::open(world).await;
    let process = session.process("*").await;
    let mut orders = Vec::new();
    for (version, namespace) in [("1.0.0", "shop"), ("2.0.0", "shop"), ("1.0.0", "bank")] {
        let mut definition = workflow("orders", &[("first", &[]), ("second", &["first"])]);
        definition["version"] = json!(version);
        definition["namespace"] = json!(namespace);
        orders.push(register(world, &definition).await);
    }
    let mut tasks = Vec::new();
    for number in 0..12_usize {
        session.at(&format!("{number} minutes")).await;
        let mut options = json!({"input": {"number": number, "customer": {"vip": number % 2 == 0}}, "tags": ["all"]});
        if number % 3 == 0 {
            options["tags"] = json!(["all", "third"]);
        }
        if number % 5 == 0 {
            options["correlation_id"] = json!(CORRELATION);
        }
        tasks.push(session.create(&orders[number % 3], options).await);
    }
    // The first steps, in the order of the tasks: the last two tasks have not begun.
    let claims = session.claim(process, "*", 10).await;
    let mut outcomes: Vec<Value> = claims[..5].iter().map(completed).collect();
    outcomes.extend(claims[5..7].iter().map(failed_for_good));
    session.finish(process, &outcomes, 0).await;
    // Of the five second steps, three are ready; tasks 0 and 1 are completed.
    let seconds = session.claim(process, "*", 20).await;
    let second =
        |task: i64| seconds.iter().find(|claim| claim["task_id"] == task && claim["step"] == "second").unwrap();
    let ended = [completed(second(tasks[0])), completed(second(tasks[1]))];
    session.finish(process, &ended, 0).await;
    let rest: Vec<&Value> = seconds
        .iter()
        .filter(|claim| claim["task_id"] != tasks[0] && claim["task_id"] != tasks[1] && claim["step"] == "second")
        .chain(seconds.iter().filter(|claim| claim["task_id"] == tasks[10] || claim["task_id"] == tasks[11]))
        .collect();
    let tokens: Vec<String> = rest.iter().map(|claim| claim["token"].to_string()).collect();
    session.call(&format!("return_claims('{{{}}}', '0', 'shutdown')", tokens.join(","))).await;
    session.call(&format!("cancel_task({}, 'unwanted', 'ada')", tasks[4])).await;
    session.call(&format!("resolve_task({}, 'paid', 'ada')", tasks[6])).await;
    History { session, tasks }
}

impl History {
    /// The report on each task, in the order of their creation.
    async fn reports(&mut self) -> Vec<Value> {
        self.session
            .rows("select * from tasker_core_v1.task_execution_contexts(array(select id from tasker_tasks)) order by 1")
            .await
    }

    async fn page(&mut self, filter: &Value, before: &Value, limit: usize, scan_limit: usize) -> (Vec<i64>, Value) {
        let before = before.as_str().map_or_else(|| "null".to_owned(), |uuid| format!("'{uuid}'"));
        let page = self.session.call(&format!("find_tasks({}, {before}, {limit}, {scan_limit})", quoted(filter))).await;
        let ids = page["task_ids"].as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect();
        (ids, page["next"].clone())
    }

    /// The numbers of the tasks that fit, on one page.
    async fn found(&mut self, filter: Value) -> Vec<usize> {
        let (ids, next) = self.page(&filter, &Value::Null, 100, 100).await;
        assert_eq!(next, Value::Null, "{filter}");
        ids.iter().map(|id| self.tasks.iter().position(|task| task == id).unwrap()).collect()
    }
}

/// Tasks whose reports have one of these values in a field, the newest first.
fn tasks_with(field: &str, values: &[&str], reports: &[Value]) -> Vec<i64> {
    let with_value = reports.iter().filter(|report| values.contains(&report[field].as_str().unwrap()));
    with_value.rev().map(|report| report["task_id"].as_i64().unwrap()).collect()
}

#[test]
fn the_newest_tasks_that_fit_a_filter_are_found() {
    World::run(|world| async move {
        let mut history = history(&world).await;
        for (filter, expected) in [
            (json!({}), (0..12).rev().collect::<Vec<_>>()),
            (json!({"workflow": "orders", "namespace": "shop"}), vec![10, 9, 7, 6, 4, 3, 1, 0]),
            (json!({"workflow": "orders", "version": "2.0.0"}), vec![10, 7, 4, 1]),
            (json!({"namespace": "nowhere"}), vec![]),
            (json!({"tags": ["third"]}), vec![9, 6, 3, 0]),
            (json!({"tags": ["third", "all"]}), vec![9, 6, 3, 0]),
            (json!({"tags": ["third", "none"]}), vec![]),
            (json!({"correlation_id": CORRELATION}), vec![10, 5, 0]),
            (json!({"correlation_id": CORRELATION, "namespace": "bank"}), vec![5]),
            (json!({"since": "2030-01-01T12:09:00Z"}), vec![11, 10, 9]),
            (json!({"until": "2030-01-01T12:02:00Z"}), vec![1, 0]),
            (json!({"since": "2030-01-01T12:01:00Z", "until": "2030-01-01T12:03:00Z", "namespace": "bank"}), vec![2]),
            (json!({"input": {"number": 7}}), vec![7]),
            (json!({"input": {"customer": {"vip": true}}, "namespace": "bank"}), vec![8, 2]),
            (json!({"states": ["error"]}), vec![5]),
            (json!({"states": ["complete", "cancelled"], "namespace": "shop"}), vec![4, 1, 0]),
        ] {
            assert_eq!(history.found(filter.clone()).await, expected, "{filter}");
        }
    });
}

#[test]
fn a_state_filter_finds_the_tasks_in_that_state() {
    World::run(|world| async move {
        let mut history = history(&world).await;
        let reports = history.reports().await;
        assert_eq!(reports.len(), 12);
        let states = ["pending", "in_progress", "complete", "error", "cancelled", "resolved_manually"];
        for (first, state) in states.iter().enumerate() {
            for wanted in [vec![*state], vec![*state, states[(first + 1) % states.len()]]] {
                let (found, _) = history.page(&json!({"states": wanted}), &Value::Null, 100, 100).await;
                let expected = tasks_with("state", &wanted, &reports);
                assert!(!expected.is_empty(), "the history has no task that is {state}");
                assert_eq!(found, expected, "{wanted:?}");
            }
        }
    });
}

#[test]
fn pages_follow_without_gaps_up_to_the_last() {
    World::run(|world| async move {
        let mut history = history(&world).await;
        let all: Vec<i64> = history.tasks.iter().rev().copied().collect();
        for (limit, scan_limit) in [(5, 100), (4, 100), (12, 100), (13, 100), (3, 3), (100, 5), (1, 1)] {
            let (mut seen, mut next, mut pages) = (Vec::new(), Value::Null, 0);
            loop {
                let (ids, following) = history.page(&json!({}), &next, limit, scan_limit).await;
                assert!(ids.len() <= limit.min(scan_limit));
                seen.extend(ids);
                pages += 1;
                next = following;
                if next.is_null() {
                    break;
                }
            }
            assert_eq!(seen, all, "{limit} of {scan_limit}");
            let most = 12_usize.div_ceil(limit.min(scan_limit)) + usize::from(limit.min(scan_limit) == scan_limit);
            assert!(pages <= most, "{pages} pages of {limit} and {scan_limit}");
        }
        // Tasks that do not match are skipped, for any page and any number of scanned tasks.
        for filter in [
            json!({"namespace": "shop"}),
            json!({"tags": ["third"]}),
            json!({"correlation_id": CORRELATION}),
            json!({"correlation_id": CORRELATION, "namespace": "bank"}),
            json!({"states": ["in_progress", "error"]}),
            json!({"input": {"number": 0}}),
        ] {
            let (expected, _) = history.page(&filter, &Value::Null, 100, 100).await;
            for (limit, scan_limit) in [(1, 100), (2, 100), (2, 7), (3, 4), (1, 2), (1, 1)] {
                let (mut seen, mut next) = (Vec::new(), Value::Null);
                loop {
                    let (ids, following) = history.page(&filter, &next, limit, scan_limit).await;
                    assert!(
                        ids.len() == limit || scan_limit < 100 || following.is_null(),
                        "a page that could have more: {filter}"
                    );
                    seen.extend(ids);
                    next = following;
                    if next.is_null() {
                        break;
                    }
                }
                assert_eq!(seen, expected, "{filter}: {limit} of {scan_limit}");
            }
        }
        // One that has come meanwhile is on no later page.
        let (_, next) = history.page(&json!({}), &Value::Null, 2, 100).await;
        let (second, _) = history.page(&json!({}), &next, 2, 100).await;
        assert_eq!(second, all[2..4]);
    });
}

#[test]
fn a_page_scans_up_to_its_limit_and_returns_a_cursor() {
    World::run(|world| async move {
        let mut history = history(&world).await;
        let rare = json!({"input": {"number": 0}});
        let (mut next, mut pages, mut found) = (Value::Null, 0, Vec::new());
        loop {
            let (ids, following) = history.page(&rare, &next, 10, 4).await;
            pages += 1;
            found.extend(ids);
            if following.is_null() {
                break;
            }
            assert!(found.is_empty() || pages >= 3, "found on page {pages}");
            next = following;
        }
        assert_eq!(
            (found, pages),
            (vec![history.tasks[0]], 4),
            "three pages of four tasks, and one that finds the end"
        );
        for (limit, scan_limit) in [(1, 4), (1, 3), (2, 5), (1, 11)] {
            let (none, next) = history.page(&rare, &Value::Null, limit, scan_limit).await;
            let last = format!("select uuid from tasker_tasks where id = {}", history.tasks[12 - scan_limit]);
            assert_eq!(none, Vec::<i64>::new());
            assert_eq!(text(&next), text(&history.session.one(&last).await), "it has scanned {scan_limit}");
        }
        let in_a_workflow = json!({"namespace": "shop", "input": {"number": 0}});
        let (none, next) = history.page(&in_a_workflow, &Value::Null, 10, 4).await;
        assert_eq!(none, Vec::<i64>::new());
        let uuid = format!("select uuid from tasker_tasks where id = {}", history.tasks[6]);
        assert_eq!(text(&next), text(&history.session.one(&uuid).await), "it has scanned 10, 9, 7 and 6");
    });
}

#[test]
fn a_status_finds_the_tasks_that_have_it() {
    World::run(|world| async move {
        let mut history = history(&world).await;
        let reports = history.reports().await;
        let mut statuses: Vec<&str> = reports.iter().map(|row| row["execution_status"].as_str().unwrap()).collect();
        statuses.sort_unstable();
        statuses.dedup();
        assert!(statuses.len() >= 5, "{statuses:?}");
        for (first, status) in statuses.iter().enumerate() {
            for wanted in [vec![*status], vec![*status, statuses[(first + 1) % statuses.len()]]] {
                let expected = tasks_with("execution_status", &wanted, &reports);
                let (found, _) = history.page(&json!({"statuses": wanted}), &Value::Null, 100, 100).await;
                assert_eq!(found, expected, "{wanted:?}");
                let (newest, _) = history.page(&json!({"statuses": wanted}), &Value::Null, 1, 100).await;
                assert_eq!(newest, expected[..1], "{wanted:?}");
            }
        }
        assert_eq!(history.found(json!({"statuses": ["scheduled"]})).await, Vec::<usize>::new());
    });
}

#[test]
fn several_statuses_at_once_equal_each_one_alone() {
    World::run(|world| async move {
        let mut history = history(&world).await;
        let together = history.reports().await;
        for (task, report) in history.tasks.iter().zip(&together) {
            let alone = format!("select * from tasker_core_v1.task_execution_context({task})");
            assert_eq!(history.session.rows(&alone).await, std::slice::from_ref(report));
        }
        assert_eq!(together.len(), 12);
    });
}
