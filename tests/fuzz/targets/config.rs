//! The configuration: any text gets an answer, and each problem has a line number that
//! exists in the file.
#![no_main]

use jabsocket::config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let (problems, refused) = match config::parse("file", text) {
        Ok(loaded) => {
            // An accepted configuration can be used.
            let _ = loaded.config.domain("a.example");
            let _ = loaded.config.top.origin_allowed(Some("https://a.example"));
            (loaded.warnings, false)
        }
        Err(problems) => (problems, true),
    };
    let lines = text.split('\n').count() + text.matches('\r').count();
    for problem in &problems {
        assert!(!problem.to_string().is_empty());
        let Some(line) = problem.line else {
            let told = problem.what.to_string();
            assert!(told.starts_with("is too large"), "{problem}");
            continue;
        };
        assert!((1..=lines + 1).contains(&line), "{problem} of {lines}");
    }
    let errors = problems.iter().any(|problem| !problem.what.is_warning());
    assert_eq!(errors, refused, "{problems:?}");
    assert!(problems.is_sorted_by_key(|problem| problem.line));
});
