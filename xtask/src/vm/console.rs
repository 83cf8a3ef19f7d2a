//! Parses a virtual machine's console.

/// Prefix of lines that are meant for xtask.
pub(super) const MARK: &str = "fdwatch-vm:";

/// The results of the programs that the machine ran.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// The exit code of `fdwatch doctor`; `None` if it did not finish.
    pub(super) doctor: Option<i32>,
    /// The capabilities that doctor reported as reduced.
    pub(super) reduced: Vec<String>,
    /// The exit code of the tests; `None` if they did not finish.
    pub(super) status: Option<i32>,
    /// The counts that the tests printed.
    pub(super) tests: Option<Tests>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tests {
    pub(super) passed: u32,
    pub(super) failed: u32,
}

impl Report {
    pub(super) fn new(console: &str) -> Self {
        let mut report = Self::default();
        for line in console.lines() {
            // The kernel and others print to the same console.
            let words: Vec<_> = line.split_whitespace().collect();
            match *words {
                [MARK, "doctor", code] => report.doctor = code.parse().ok(),
                [MARK, "tests", code] => report.status = code.parse().ok(),
                [
                    "test",
                    "result:",
                    _,
                    passed,
                    "passed;",
                    failed,
                    "failed;",
                    ..,
                ] => {
                    report.tests = tests(passed, failed);
                }
                ["reduced", what, ..] if report.doctor.is_none() => {
                    report.reduced.push(what.to_owned());
                }
                _ => {}
            }
        }
        report
    }

    /// Returns whether fdwatch works, and at least one test ran, and all passed.
    pub(super) fn passed(&self) -> bool {
        let tested = (self.tests.as_ref()).is_some_and(|tests| tests.passed > 0);
        matches!(self.doctor, Some(0 | 1)) && self.status == Some(0) && tested
    }

    /// Returns doctor's verdict in a few words.
    pub(super) fn verdict(&self) -> String {
        match self.doctor {
            Some(0) => "works".to_owned(),
            Some(1) => format!("works except {}", self.reduced.join(", ")),
            Some(2) => "does not work".to_owned(),
            Some(code) => format!("exit code {code}"),
            None => "no verdict".to_owned(),
        }
    }
}

fn tests(passed: &str, failed: &str) -> Option<Tests> {
    Some(Tests {
        passed: passed.parse().ok()?,
        failed: failed.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSED: &str = "ok       kernel         6.1.0-50-cloud-amd64\r\n\
        reduced  lockdown       integrity\r\n\
        fdwatch works here, with reduced functionality\r\n\
        fdwatch-vm: doctor 1\r\n\
        running 12 tests\r\n\
        reduced  nothing, this line is printed by a test\r\n\
        test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\r\n\
        fdwatch-vm: tests 0\r\n\
        [    6.1] reboot: Power down\r\n";

    #[test]
    fn passing_run_is_parsed() {
        let report = Report::new(PASSED);
        assert_eq!(report.verdict(), "works except lockdown");
        let tests = Tests {
            passed: 12,
            failed: 0,
        };
        assert_eq!(report.tests, Some(tests));
        assert!(report.passed());
    }

    #[test]
    fn failed_or_missing_results_do_not_pass() {
        for (from, to) in [
            ("doctor 1", "doctor 2"),
            ("tests 0", "tests 101"),
            ("fdwatch-vm: tests 0", ""),
            ("fdwatch-vm: doctor 1", ""),
            ("12 passed", "0 passed"),
            ("test result: ok", "Kernel panic"),
        ] {
            assert!(!Report::new(&PASSED.replace(from, to)).passed(), "{from}");
        }
        assert_eq!(Report::new(""), Report::default());
        assert_eq!(Report::new("").verdict(), "no verdict");
    }
}
