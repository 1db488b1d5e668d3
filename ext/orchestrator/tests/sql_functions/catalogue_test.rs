//! The installed functions are those of the files in db/functions.
//! `rakelib/called_functions.rb` names functions that no test calls.

use std::collections::BTreeSet;
use std::fs::read_to_string;

use crate::support::{files, World};

#[test]
fn every_file_installs_one_documented_function_of_its_name() {
    World::run(|world| async move {
        let mut names = BTreeSet::new();
        for path in files("../../db/functions", ".sql") {
            let source = read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            assert!(source.starts_with("-- "), "{name}.sql opens with what it is for");
            assert_eq!(source.matches("create function").count(), 1, "{name}.sql");
            assert!(source.contains(&format!("create function tasker_core_v1.{name}(")), "{name}.sql");
            assert!(names.insert(name), "two files have the name {}", path.display());
        }

        let sql = "select proname::text from pg_proc where pronamespace = 'tasker_core_v1'::regnamespace";
        let installed: Vec<String> = sqlx::query_scalar(sql).fetch_all(&world.pool).await.unwrap();
        assert_eq!(installed.len(), names.len(), "a function is installed in one form");
        assert_eq!(BTreeSet::from_iter(installed), names);
    });
}
