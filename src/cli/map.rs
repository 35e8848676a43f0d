//! `dynlink run --map`: who lay where in the process at its end.

#![forbid(unsafe_code)]

use super::tool;
use crate::error::{Error, Result};
use crate::link::{MapRange, ProcessMap};
use serde_json::{Value, json};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// Where a map goes.
pub enum Output {
    StandardError,
    File { path: PathBuf, file: File },
}

impl Output {
    /// Opens a file, before the program runs: what cannot be written is known before anything has happened. What the
    /// file held stays until there is a map.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(path: Option<&Path>) -> Result<Output> {
        let Some(path) = path else {
            return Ok(Output::StandardError);
        };
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|source| Error::msg(cannot_write(path, &source)))?;
        Ok(Output::File {
            path: path.to_owned(),
            file,
        })
    }

    /// Writes the map, as JSON if the file's name says so. The program has ended and its status counts, so an error (a
    /// full disk) is only told.
    pub fn write(self, map: &ProcessMap) {
        let (path, mut file) = match self {
            Output::StandardError => {
                let _ = write!(std::io::stderr(), "\n{map}");
                return;
            }
            Output::File { path, file } => (path, file),
        };
        let is_json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        let text = if is_json {
            tool::json(&to_json(map))
        } else {
            map.to_string()
        };
        // What is no regular file, such as a pipe, has no length to set.
        let _ = file.set_len(0);
        if let Err(source) = file.write_all(text.as_bytes()) {
            let _ = writeln!(
                std::io::stderr(),
                "dynlink: {}",
                cannot_write(&path, &source)
            );
        }
    }
}

fn cannot_write(path: &Path, source: &std::io::Error) -> String {
    format!("cannot write the map `{}`: {source}", path.display())
}

fn to_json(map: &ProcessMap) -> Value {
    let ranges = |ranges: &[MapRange]| -> Vec<Value> {
        ranges
            .iter()
            .map(|range| {
                json!({
                    "start": range.start,
                    "end": range.end,
                    "purpose": range.purpose.text(),
                    "object": range.object,
                })
            })
            .collect()
    };
    let objects: Vec<Value> = map
        .objects
        .iter()
        .map(|object| {
            json!({
                "name": object.name,
                "path": object.path,
                "opens": object.opens,
                "ready": object.ready,
                "cells": object.cells,
                "functions": object.functions,
                "translated": object.translated,
                "code_bytes": object.code_bytes,
                "file_bytes": object.file_bytes,
            })
        })
        .collect();
    json!({
        "objects": objects,
        "memory_bytes": map.memory_bytes,
        "memory": ranges(&map.memory),
        "table_elements": map.table_elements,
        "table": ranges(&map.table),
        "unloaded": map.unloaded,
    })
}
