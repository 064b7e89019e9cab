//! A certificate authority and one certificate signed by it, made with openssl, for tests over TLS.

use crate::scratch::output_of;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Paths of the files, named as sysbench expects them in its working directory.
pub struct Certificates {
    /// The directory that holds them all.
    pub directory: PathBuf,
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The certificate of server and client, for `localhost`.
    pub certificate: PathBuf,
    /// Its key, without a password.
    pub key: PathBuf,
}

/// Makes them in a directory.
pub fn make(directory: &Path) -> Certificates {
    let openssl = |args: &str| {
        output_of(Command::new("openssl").current_dir(directory).args(args.split(' ')));
    };
    openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout ca-key.pem -out cacert.pem -days 3650 -subj /CN=perquery-tests",
    );
    openssl("req -newkey rsa:2048 -nodes -keyout client-key.pem -out client.csr -subj /CN=localhost");
    openssl(
        "x509 -req -in client.csr -CA cacert.pem -CAkey ca-key.pem -CAcreateserial -days 3650 -out client-cert.pem",
    );
    Certificates {
        directory: directory.to_path_buf(),
        authority: directory.join("cacert.pem"),
        certificate: directory.join("client-cert.pem"),
        key: directory.join("client-key.pem"),
    }
}
