//! Every operator in every operand form, checked against an independent evaluation.
//!
//! The engine has several instructions for one operator: operands come from slots, from an accumulator
//! or are immediates, results go to a slot or stay in the accumulator, and neighbours are fused. Which
//! one is used depends on what stands around the operator. The generators here put each operator between
//! each kind of producer and each kind of consumer, so that all of them are executed, and compare what
//! comes out with `evaluate`, which walks the same trees with the meanings in `operators`.
//!
//! | file | holds |
//! |---|---|
//! | `operators` | the operators and their meaning |
//! | `language` | functions as trees, and their text |
//! | `evaluate` | the independent evaluation |
//! | `harness` | running a group of functions in the engine, comparing, repeating |
//! | `shapes` | kinds of producers and consumers |
//! | `families`, `control`, `loops` | the systematic groups |
//! | `pairs` | neighbours that become one instruction |
//! | `random` | random programs |

pub mod control;
pub mod evaluate;
pub mod families;
pub mod harness;
pub mod language;
pub mod loops;
pub mod operators;
pub mod pairs;
pub mod random;
pub mod shapes;
