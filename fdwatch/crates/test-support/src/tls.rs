//! Certificates made by openssl.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::run;

/// Path of openssl.
pub const OPENSSL: &str = "/usr/bin/openssl";

/// A certificate authority.
pub struct Authority {
    directory: PathBuf,
}

impl Authority {
    /// Creates an authority whose files are in a new directory.
    pub fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).expect("cannot create a directory");
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

    /// Returns its own certificate, to be trusted by clients.
    pub fn certificate(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Signs a certificate for subject alternative names such as `DNS:localhost,IP:10.0.0.1`. Returns
    /// certificate and key.
    pub fn sign(&self, name: &str, names: &str) -> (PathBuf, PathBuf) {
        let [request, extension, certificate, key] =
            ["csr", "ext", "crt", "key"].map(|kind| format!("{name}.{kind}"));
        self.make_key(&["-subj", "/CN=x", "-keyout", &key, "-out", &request]);
        let names = format!("subjectAltName={names}\n");
        fs::write(self.directory.join(&extension), names).expect("cannot write a file");
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

    /// Makes a key and a certificate or request.
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
