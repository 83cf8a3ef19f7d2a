//! Certificates, by openssl.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::run;

pub(crate) const OPENSSL: &str = "/usr/bin/openssl";

/// Signs certificates.
pub(crate) struct Authority {
    directory: PathBuf,
}

impl Authority {
    /// One whose files are in this directory, which is made.
    pub(crate) fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).expect("a directory can be made");
        let authority = Self {
            directory: directory.to_owned(),
        };
        let name = directory.file_name().unwrap_or_default();
        let name = format!("/CN={}", name.display());
        authority.make_key(&[
            "-x509", "-subj", &name, "-days", "2", "-keyout", "ca.key", "-out", "ca.pem",
        ]);
        authority
    }

    /// What is to be trusted.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// A certificate for these (`DNS:localhost,IP:10.0.0.1`), and its key.
    pub(crate) fn sign(&self, name: &str, names: &str) -> (PathBuf, PathBuf) {
        let [request, extension, certificate, key] =
            ["csr", "ext", "crt", "key"].map(|kind| format!("{name}.{kind}"));
        self.make_key(&["-subj", "/CN=x", "-keyout", &key, "-out", &request]);
        let names = format!("subjectAltName={names}\n");
        fs::write(self.directory.join(&extension), names).expect("a file can be written");
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-extfile",
            &extension,
            "-days",
            "2",
            "-out",
            &certificate,
        ]);
        (self.directory.join(certificate), self.directory.join(key))
    }

    /// A key, and what is asked for with it.
    fn make_key(&self, arguments: &[&str]) {
        let new = [
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ];
        self.openssl(&[&new, arguments].concat());
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new(OPENSSL);
        command.args(arguments).current_dir(&self.directory);
        let done = run(command);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
}
