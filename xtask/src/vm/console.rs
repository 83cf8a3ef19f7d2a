//! What a virtual machine's console says of how it went.

/// What the lines for xtask begin with.
pub(super) const MARK: &str = "fdwatch-vm:";

/// What became of the programs that were run.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// The exit code of `fdwatch doctor`; none if it did not come to its end.
    pub(super) doctor: Option<i32>,
    /// What the doctor called less than it could be.
    pub(super) reduced: Vec<String>,
    /// The exit code of the tests; none if they did not come to their end.
    pub(super) status: Option<i32>,
    /// What the tests say of themselves.
    pub(super) tests: Option<Tests>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Tests {
    pub(super) passed: u32,
    pub(super) failed: u32,
}

impl Reading {
    pub(super) fn new(console: &str) -> Self {
        let mut reading = Self::default();
        for line in console.lines() {
            // What is not ours, the kernel's first, may be anything.
            let words: Vec<_> = line.split_whitespace().collect();
            match *words {
                [MARK, "doctor", code] => reading.doctor = code.parse().ok(),
                [MARK, "tests", code] => reading.status = code.parse().ok(),
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
                    reading.tests = tests(passed, failed);
                }
                ["reduced", what, ..] if reading.doctor.is_none() => {
                    reading.reduced.push(what.to_owned());
                }
                _ => {}
            }
        }
        reading
    }

    /// Whether fdwatch works there, and at least one test was run, and all passed.
    pub(super) fn passed(&self) -> bool {
        let tested = (self.tests.as_ref()).is_some_and(|tests| tests.passed > 0);
        matches!(self.doctor, Some(0 | 1)) && self.status == Some(0) && tested
    }

    /// The doctor's verdict in a word or two.
    pub(super) fn verdict(&self) -> String {
        match self.doctor {
            Some(0) => "works".to_owned(),
            Some(1) => format!("works, but for {}", self.reduced.join(", ")),
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
        fdwatch works here, with less than it could\r\n\
        fdwatch-vm: doctor 1\r\n\
        running 12 tests\r\n\
        reduced  nothing, this is a test's own line\r\n\
        test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\r\n\
        fdwatch-vm: tests 0\r\n\
        [    6.1] reboot: Power down\r\n";

    #[test]
    fn all_that_passes() {
        let reading = Reading::new(PASSED);
        assert_eq!(reading.verdict(), "works, but for lockdown");
        let tests = Tests {
            passed: 12,
            failed: 0,
        };
        assert_eq!(reading.tests, Some(tests));
        assert!(reading.passed());
    }

    #[test]
    fn what_fails_or_is_missing_does_not_pass() {
        for (from, to) in [
            ("doctor 1", "doctor 2"),
            ("tests 0", "tests 101"),
            ("fdwatch-vm: tests 0", ""),
            ("fdwatch-vm: doctor 1", ""),
            ("12 passed", "0 passed"),
            ("test result: ok", "Kernel panic"),
        ] {
            assert!(!Reading::new(&PASSED.replace(from, to)).passed(), "{from}");
        }
        assert_eq!(Reading::new(""), Reading::default());
        assert_eq!(Reading::new("").verdict(), "no verdict");
    }
}
