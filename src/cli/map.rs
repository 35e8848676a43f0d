//! `dynlink run --map`: who lay where in the process at its end.

#![forbid(unsafe_code)]

use super::tool;
use crate::error::{Error, Result};
use crate::link::{MapRange, ProcessMap};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// Writes a map to a file, as JSON if its name says so, or to standard error.
///
/// # Errors
/// The file cannot be written.
pub fn write(map: &ProcessMap, file: Option<&Path>) -> Result<()> {
    let Some(file) = file else {
        let _ = write!(std::io::stderr(), "\n{map}");
        return Ok(());
    };
    let is_json = file
        .extension()
        .is_some_and(|extension| extension == "json");
    let text = if is_json {
        tool::json(&to_json(map))
    } else {
        map.to_string()
    };
    std::fs::write(file, text)
        .map_err(|source| Error::msg(format!("cannot write `{}`: {source}", file.display())))
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
