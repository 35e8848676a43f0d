//! A folder with modules, and runs of the command in it: what the tests of the command share.

#![forbid(unsafe_code)]

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// A folder with modules, and the command in it.
pub struct Case {
    pub folder: tempfile::TempDir,
}

/// How the command ended.
#[derive(Debug)]
pub struct Done {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Case {
    pub fn new() -> Case {
        Case {
            folder: tempfile::tempdir().expect("a temporary directory"),
        }
    }

    /// A case with the module `m.wasm`.
    pub fn module(text: &str) -> Case {
        Case::new().and("m.wasm", text)
    }

    pub fn and(self, name: &str, text: &str) -> Case {
        let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
        self.file(name, bytes)
    }

    pub fn file(self, name: &str, contents: impl AsRef<[u8]>) -> Case {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        std::fs::write(path, contents).expect("a file");
        self
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, &[], b"")
    }

    pub fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)], input: &[u8]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dynlink"));
        command.current_dir(self.folder.path()).args(arguments);
        for name in [
            "LD_LIBRARY_PATH",
            "LD_PRELOAD",
            "LD_BIND_NOW",
            "LD_DEBUG",
            "LD_DEBUG_OUTPUT",
        ] {
            command.env_remove(name);
        }
        command.envs(variables.iter().copied());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        // A guest that reads nothing may be gone before the input is written.
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        let output = child.wait_with_output().expect("the command ends");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Done {
            status: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }
}

impl Done {
    /// Fails unless the status is this and standard error has all these parts.
    #[track_caller]
    pub fn fails(&self, status: i32, parts: &[&str]) {
        assert_eq!(self.status, Some(status), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "`{part}` is missing: {self:?}");
        }
    }

    #[track_caller]
    pub fn prints(&self, expected: &str) {
        assert_eq!(
            (self.status, &*self.stdout, &*self.stderr),
            (Some(0), expected, "")
        );
    }
}
