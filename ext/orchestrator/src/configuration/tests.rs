use super::*;

#[test]
fn the_defaults_are_complete_and_in_range() {
    let configuration = Configuration::load(None).unwrap();
    assert_eq!(configuration.execution.queues, vec!["*"]);
    let shown = serde_json::to_value(&configuration).unwrap();
    assert_eq!(shown["leases"]["heartbeat_interval"], json!(5.0));
}

#[test]
fn an_application_changes_single_settings() {
    let given = json!({"execution": {"threads": 9}, "leases": {"process_timeout": "1m", "heartbeat_interval": 2.5}});
    let configuration = Configuration::load(Some(&given)).unwrap();
    assert_eq!(configuration.execution.threads, 9);
    assert_eq!(configuration.leases.process_timeout, Duration::from_secs(60));
    assert_eq!(configuration.leases.heartbeat_interval, Duration::from_millis(2500));
    assert_eq!(configuration.execution.claim_batch, Configuration::load(None).unwrap().execution.claim_batch);
}

#[test]
fn all_problems_are_reported_with_path_value_and_remedy() {
    let cases = [
        (json!({"exection": {}}), "exection: {} (object) is an unknown setting: did you mean `execution`?"),
        (
            json!({"execution": {"thread": 2}}),
            "execution.thread: 2 (integer) is an unknown setting: did you mean `threads`?",
        ),
        (json!({"execution": {"threads": 0}}), "execution.threads: 0 (integer) must be an integer from 1 to 1000"),
        (json!({"execution": {"threads": "5"}}), "execution.threads: \"5\" (string) must be an integer"),
        (json!({"retry": {"base": "soon"}}), "retry.base: \"soon\" (string) must be a duration"),
        (json!({"retry": {"backoff": "expontial"}}), "did you mean `exponential`?"),
        (json!({"leases": {"process_timeout": 6}}), "at least twice leases.heartbeat_interval"),
        (json!({"api": {"page_size": 201}}), "must not exceed api.max_page_size"),
        (json!({"execution": {"queues": []}}), "must name a queue"),
        (json!({"execution": {"queues": [""]}}), "must name a queue"),
        (json!({"execution": {"threads": null}}), "execution.threads: has no value: remove it"),
        (json!({"retry": null}), "retry: has no value: remove it"),
        (json!({"retry": {"max_attempts": 0}}), "retry.max_attempts: 0 (integer) must be an integer from 1"),
        (json!({"execution": {"thr.eads": 1}}), "execution.thr.eads: 1 (integer) is not a valid name"),
        (
            json!({"systems": {"x": {"concurrency": 3}}}),
            "systems.x.base_url: \"\" (string) is missing: set the system's URL",
        ),
        (json!({"systems": {"x": {"base_url": "x"}}}), "must be a URL such as"),
        (json!({"systems": {"x": {"bas_url": "x"}}}), "did you mean `base_url`?"),
        (json!({"correlation": {"header": "X Id"}}), "must be the name of an HTTP header such as"),
        (json!({"correlation": {"header": ""}}), "correlation.header: \"\" (string) must be the name"),
        (json!({"limits": {"payload_bytes": "1 apple"}}), "must be a size from 1 to 268435455 bytes"),
        (json!({"steps": {"queue": "*"}}), "steps.queue: \"*\" (string) must be a name"),
        (
            json!({"database": {"pool": {"min_connections": 9}}}),
            "database.pool.min_connections: 9 (integer) must not exceed database.pool.max_connections",
        ),
        (json!({"limits": {"payload_depth": 128}}), "limits.payload_depth: 128 (integer) must be an integer"),
        (json!([]), "the settings: [] (array) must be an object"),
    ];
    for (given, message) in cases {
        let error = Configuration::load(Some(&given)).unwrap_err().to_string();
        assert!(error.contains(message), "{given}: {error}");
    }
    let two = json!({"execution": {"threads": 0, "flush_delay": "1h"}});
    let error = Configuration::load(Some(&two)).unwrap_err().to_string();
    assert!(error.contains("execution.threads") && error.contains("execution.flush_delay"), "{error}");
}

#[test]
fn an_unknown_setting_hides_no_other_problem() {
    let given = json!({"exection": {}, "retry": {"bas": 1, "factor": 0}, "execution": {"threads": 0}, "steps": 3});
    let Error::Configuration { problems: Problems(problems) } = Configuration::load(Some(&given)).unwrap_err() else {
        panic!("another error");
    };
    let mut fields: Vec<&str> = problems.iter().map(|problem| problem.field.as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, vec!["exection", "execution.threads", "retry.bas", "retry.factor", "steps"]);
}

struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn with(content: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("tasker-core.yaml"), content).unwrap();
        Self { directory }
    }

    fn sources(&self) -> Sources {
        Sources { file: Some(self.directory.path().join("tasker-core.yaml")), ..Sources::default() }
    }
}

fn origin_of<'a>(manager: &'a ConfigurationManager, path: &str) -> &'a str {
    &manager.effective().iter().find(|setting| setting.path == path).unwrap().origin.0
}

#[test]
fn each_layer_overrides_the_previous_and_records_its_origin() {
    let files = Files::with(
        "execution:\n  threads: 2\n  processes: 2\n  claim_batch: 2\n  flush_size: 2\nenvironments:\n  production:\n    \
         execution:\n      processes: 3\n      claim_batch: 3\n      flush_size: 3\n  test:\n    execution:\n      threads: 9\n",
    );
    let variables =
        [("TASKER_CORE__EXECUTION__CLAIM_BATCH", "4"), ("TASKER_CORE__EXECUTION__FLUSH_SIZE", "4"), ("HOME", "/")];
    let sources = Sources {
        environment: Some("production".to_owned()),
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        overrides: Some(json!({"execution": {"flush_size": 5}})),
        ..files.sources()
    };
    let manager = ConfigurationManager::load(&sources).unwrap();
    let execution = &manager.configuration().execution;
    let figures =
        [execution.statements, execution.threads, execution.processes, execution.claim_batch, execution.flush_size];
    assert_eq!(figures, [2, 2, 3, 4, 5]);
    let file = files.sources().file.unwrap().display().to_string();
    assert_eq!(origin_of(&manager, "execution.statements"), "default");
    assert_eq!(origin_of(&manager, "execution.threads"), file);
    assert_eq!(origin_of(&manager, "execution.processes"), format!("{file}, environments.production"));
    assert_eq!(origin_of(&manager, "execution.claim_batch"), "TASKER_CORE__EXECUTION__CLAIM_BATCH");
    assert_eq!(origin_of(&manager, "execution.flush_size"), "the application's code");
    assert_eq!(manager.effective().len(), schema().settings.len());
}

#[test]
fn variables_of_every_kind_are_read_and_can_name_a_system() {
    let variables = [
        ("TASKER_CORE__DATABASE__POOL__MAX_CONNECTIONS", "7"),
        ("TASKER_CORE__DATABASE__POLL_ONLY", "true"),
        ("TASKER_CORE__EXECUTION__QUEUES", "a, b"),
        ("TASKER_CORE__LEASES__HEARTBEAT_INTERVAL", "1500ms"),
        ("TASKER_CORE__LIMITS__PAYLOAD_BYTES", "2MiB"),
        ("TASKER_CORE__RETRY__JITTER", "0.5"),
        ("TASKER_CORE__RETRY__BACKOFF", "linear"),
        ("TASKER_CORE__SYSTEMS__BANK__BASE_URL", "https://bank.example"),
    ];
    let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let manager = ConfigurationManager::load(&Sources { variables, ..Sources::default() }).unwrap();
    let configuration = manager.configuration();
    assert_eq!(configuration.database.pool.max_connections, 7);
    assert!(configuration.database.poll_only);
    assert_eq!(configuration.execution.queues, ["a", "b"]);
    assert_eq!(configuration.leases.heartbeat_interval, Duration::from_millis(1500));
    assert_eq!(configuration.limits.payload_bytes, 2 << 20);
    assert_eq!(serde_json::to_value(&configuration.retry).unwrap()["backoff"], "linear");
    assert_eq!(configuration.system("bank").unwrap().base_url, "https://bank.example");
    assert_eq!(configuration.system("bank").unwrap().read_timeout, Duration::from_secs(10), "that of `*`");
    assert!(configuration.system(ANY).is_none(), "`*` is no system");
}

#[test]
fn a_misspelt_variable_is_an_error_that_names_the_setting() {
    for name in [
        "TASKER_CORE_EXECUTION__THREADS",
        "TASKER_CORE__EXECUTION_THREADS",
        "TASKER_CORE_EXECUTION_THREADS",
        "TASKERCORE__EXECUTION__THREADS",
        "tasker_core__execution__threads",
    ] {
        let variables =
            HashMap::from([(name.to_owned(), "3".to_owned()), ("TASKER_CORE_TOKEN".to_owned(), "x".to_owned())]);
        let error = ConfigurationManager::load(&Sources { variables, ..Sources::default() }).unwrap_err().to_string();
        let message = format!(
            "the environment: {name}: \"3\" (string) is not a setting: did you mean `TASKER_CORE__EXECUTION__THREADS`?"
        );
        assert!(error.contains(&message), "{error}");
        assert!(!error.contains("TOKEN"), "{error}");
    }
    let variables = HashMap::from([("TASKER_CORE_TOKEN".to_owned(), "x".to_owned())]);
    assert!(
        ConfigurationManager::load(&Sources { variables, ..Sources::default() }).is_ok(),
        "it is another program's"
    );
}

#[test]
fn no_problem_shows_the_password_of_a_url() {
    let bank = |address: &str| json!({"systems": {"bank": {"base_url": address}}});
    for given in [
        bank("htps://ada:secret@bank.example"),
        bank("ada:secret@bank.example"),
        json!({"systems": {"bank": {"bas_url": "https://ada:secret@bank.example"}}}),
        json!({"systems": {"bank": "https://ada:secret@bank.example"}}),
        json!({"bank": ["https://ada:secret@bank.example"], "systems": {}}),
    ] {
        let error = Configuration::load(Some(&given)).unwrap_err().to_string();
        assert!(error.contains("***@bank.example") && !error.contains("secret"), "{error}");
    }
    let url = "https://ada:secret@bank.example";
    let variables = HashMap::from([("TASKER_CORE__SYSTEMS__BANK__URL".to_owned(), url.to_owned())]);
    let file = Files::with(&format!("environments:\n  prod:\n    bank: {url}\n"));
    let environments = Some(vec!["production".to_owned()]);
    for sources in [Sources { variables, ..Sources::default() }, Sources { environments, ..file.sources() }] {
        let error = ConfigurationManager::load(&sources).unwrap_err().to_string();
        assert!(error.contains("***@bank.example") && !error.contains("secret"), "{error}");
    }
}

#[test]
fn a_section_of_an_unknown_environment_is_an_error() {
    let file = Files::with("environments:\n  prodution:\n    execution:\n      threads: 2\n");
    let known = |environment: &str| Sources {
        environment: Some(environment.to_owned()),
        environments: Some(vec!["development".to_owned(), "production".to_owned()]),
        ..file.sources()
    };
    let error = ConfigurationManager::load(&known("production")).unwrap_err().to_string();
    assert!(error.contains("environments.prodution:"), "{error}");
    assert!(error.contains("is not an environment of this application: did you mean `production`?"), "{error}");
    assert!(ConfigurationManager::load(&known("prodution")).is_ok(), "it is the one in force");
    assert!(ConfigurationManager::load(&Sources { environments: None, ..known("production") }).is_ok());
}

#[test]
fn problems_name_their_source_even_in_unused_environments() {
    let files = Files::with(
        "execution:\n  threds: 2\nproduction:\n  execution: {}\nenvironments:\n  staging:\n    retry:\n      base: soon\n",
    );
    let sources = Sources {
        environment: Some("test".to_owned()),
        variables: HashMap::from([("TASKER_CORE__EXECUTION__PROCESSES".to_owned(), "many".to_owned())]),
        overrides: Some(json!({"steps": {"timeout": 0}})),
        ..files.sources()
    };
    let error = ConfigurationManager::load(&sources).unwrap_err().to_string();
    let file = files.sources().file.unwrap().display().to_string();
    for message in [
        format!("{file}: execution.threds: 2 (integer) is an unknown setting: did you mean `threads`?"),
        format!("{file}: production: {{\"execution\":{{}}}} (object) is an unknown setting: settings of one environment belong below `environments.production`"),
        format!("{file}: environments.staging.retry.base: \"soon\" (string) must be a duration"),
        "the environment: execution.processes: \"many\" (string) must be an integer".to_owned(),
        "steps.timeout: 0 (integer) must be a duration".to_owned(),
    ] {
        assert!(error.contains(&message), "{message}\n{error}");
    }
}

#[test]
fn a_missing_or_malformed_file_fails_and_an_empty_one_does_not() {
    let missing = Sources { file: Some("/nowhere/tasker-core.yaml".into()), ..Sources::default() };
    let error = ConfigurationManager::load(&missing).unwrap_err().to_string();
    assert!(error.contains("/nowhere/tasker-core.yaml: cannot be read as YAML"), "{error}");
    let error = ConfigurationManager::load(&Files::with("a: [").sources()).unwrap_err().to_string();
    assert!(error.contains("cannot be read as YAML"), "{error}");
    for nothing in ["", "# nothing\n", "environments: {}\n"] {
        ConfigurationManager::load(&Files::with(nothing).sources()).unwrap();
    }
    let error = ConfigurationManager::load(&Files::with("environments: 3\n").sources()).unwrap_err().to_string();
    assert!(error.contains("environments: 3 (integer) must be an object with named environments"), "{error}");
}
