//! Bad input and hostile guests: each gives a clear error or trap, and what was there before still works.
//!
//! | module | what is wrong |
//! |---|---|
//! | `mutated` | truncated modules, flipped bits |
//! | `modules` | files that are not modules, sizes at the limits, modules that are only just valid |
//! | `runaway` | guests that never end, under fuel, a deadline and interruption |
//! | `between` | calls between instances and to the host |
//! | `deep` | recursion of guests and of guests with hosts, on a small native stack |
//! | `memory` | growth that is refused |
//! | `linking` | libraries that cannot be loaded |
//! | `traps` | what a trap tells, and that the process goes on |
//! | `embedder` | arguments and handles that do not fit |

#[path = "faults/between.rs"]
mod between;
#[path = "faults/deep.rs"]
mod deep;
#[path = "faults/embedder.rs"]
mod embedder;
#[path = "faults/linking.rs"]
mod linking;
#[path = "faults/memory.rs"]
mod memory;
#[path = "faults/modules.rs"]
mod modules;
#[path = "faults/mutated.rs"]
mod mutated;
#[path = "faults/runaway.rs"]
mod runaway;
#[path = "faults/support.rs"]
mod support;
#[path = "faults/traps.rs"]
mod traps;
#[path = "faults/validation.rs"]
mod validation;
