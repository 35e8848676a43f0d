//! What guests may call: one kernel, WASI preview 1 and the cowasm profile on it.
