//! The functions that all others use: the clock, UUIDs and errors.

use std::collections::BTreeSet;

use serde_json::{json, Value};

use crate::session::{text, Session};
use crate::support::World;

#[test]
fn the_clock_is_the_databases_and_a_session_can_move_it() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let off = "extract(epoch from tasker_core_v1.current_time() - clock_timestamp())";
        let seconds = |value: Value| value.as_f64().unwrap().round() as i64;
        assert_eq!(seconds(session.one(&format!("select {off}")).await), 0);
        session.at("1 hour").await;
        assert_eq!(seconds(session.one(&format!("select {off}")).await), 3600);
        session.at("-2 days").await;
        assert_eq!(seconds(session.one(&format!("select {off}")).await), -172_800);
        session.run("begin; set local tasker_core.clock_offset = '5 s'").await;
        assert_eq!(seconds(session.one(&format!("select {off}")).await), 5);
        session.run("rollback; reset tasker_core.clock_offset").await;
        assert_eq!(seconds(session.one(&format!("select {off}")).await), 0);
        assert_eq!(
            session.one("select distinct tasker_core_v1.current_time() > now() from pg_sleep(0.001)").await,
            true,
            "not the transaction's"
        );
    });
}

#[test]
fn a_uuid_encodes_its_millisecond_and_sorts_after_its_floor() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let uuids = session
            .rows("select tasker_core_v1.uuid_v7('2030-01-01 12:00:00.123456Z') as uuid from generate_series(1, 100)")
            .await;
        let uuids: Vec<String> = uuids.iter().map(|row| text(&row["uuid"])).collect();
        assert_eq!(uuids.iter().collect::<BTreeSet<_>>().len(), 100);
        let millisecond = format!("{:012x}", 1_893_499_200_123_i64);
        let floor = session.one("select tasker_core_v1.uuid_v7_floor('2030-01-01 12:00:00.123456Z')").await;
        assert_eq!(floor, format!("{}-{}-7000-8000-000000000000", &millisecond[..8], &millisecond[8..]));
        let next = text(&session.one("select tasker_core_v1.uuid_v7_floor('2030-01-01 12:00:00.124Z')").await);
        for uuid in uuids {
            assert_eq!(uuid.replace('-', "")[..12], millisecond);
            assert_eq!(&uuid[14..15], "7", "the version of {uuid}");
            assert!("89ab".contains(&uuid[19..20]), "the variant of {uuid}");
            assert!(uuid >= text(&floor) && uuid < next);
        }
        let floor = text(&session.one("select tasker_core_v1.uuid_v7_floor('1970-01-01Z')").await);
        assert_eq!(floor, "00000000-0000-7000-8000-000000000000");
    });
}

#[test]
fn an_error_has_a_code_a_sentence_and_facts() {
    World::run(|world| async move {
        let mut session = Session::open(&world).await;
        let (message, facts) = session.refused("TC004", "raise_error('TC004', '100% of \"it\"', '{\"a\": [1]}')").await;
        assert_eq!((message.as_str(), facts), ("100% of \"it\"", json!({"a": [1]})));
    });
}
