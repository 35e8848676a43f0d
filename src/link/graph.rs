//! Walks over the graph of needed libraries, without recursion: a chain of NEEDED entries is as long as a hostile file
//! makes it, and the native stack is not.
//!
//! Two orders are used. Symbols are searched breadth first (ELF's load order); constructors run dependencies first,
//! where an edge back to a library that is already being visited is ignored (rule I4).
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::hash::Hash;

/// The nodes reachable from `roots` in breadth-first order, each once; `needed` lists a node's edges in order.
pub(crate) fn breadth_first<'a, N: Copy + Eq + Hash + 'a>(
    roots: impl IntoIterator<Item = N>,
    needed: impl Fn(N) -> &'a [N],
) -> Vec<N> {
    let mut seen = HashSet::new();
    let mut order: Vec<N> = roots
        .into_iter()
        .filter(|node| seen.insert(*node))
        .collect();
    let mut next = 0;
    while let Some(node) = order.get(next).copied() {
        next += 1;
        order.extend(
            needed(node)
                .iter()
                .copied()
                .filter(|needed| seen.insert(*needed)),
        );
    }
    order
}

/// The nodes reachable from `roots`, each after those it needs, as far as cycles allow; `needed` lists edges in order.
pub(crate) fn dependencies_first<'a, N: Copy + Eq + Hash + 'a>(
    roots: impl IntoIterator<Item = N>,
    needed: impl Fn(N) -> &'a [N],
) -> Vec<N> {
    let mut seen = HashSet::new();
    let mut order = Vec::new();
    // Open nodes with those of their edges that were not followed yet.
    let mut open: Vec<(N, std::slice::Iter<'a, N>)> = Vec::new();
    for root in roots {
        if seen.insert(root) {
            open.push((root, needed(root).iter()));
        }
        while let Some((node, edges)) = open.last_mut() {
            match edges.next() {
                Some(next) => {
                    if seen.insert(*next) {
                        open.push((*next, needed(*next).iter()));
                    }
                }
                None => {
                    order.push(*node);
                    open.pop();
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edges<'a>(lists: &'a [&'a [usize]]) -> impl Fn(usize) -> &'a [usize] {
        move |node| lists[node]
    }

    #[test]
    fn scopes_are_breadth_first_and_list_each_library_once() {
        let lists: &[&[usize]] = &[&[1, 2], &[3, 4], &[4, 5], &[], &[], &[0]];
        assert_eq!(breadth_first([0], edges(lists)), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn constructors_run_dependencies_first_in_listed_order() {
        let lists: &[&[usize]] = &[&[1, 2], &[3], &[3], &[]];
        assert_eq!(dependencies_first([0], edges(lists)), [3, 1, 2, 0]);
    }

    #[test]
    fn a_cycle_visits_each_library_once_and_ignores_the_edge_back() {
        let lists: &[&[usize]] = &[&[1], &[2], &[0, 2]];
        assert_eq!(dependencies_first([0], edges(lists)), [2, 1, 0]);
        assert_eq!(breadth_first([0], edges(lists)), [0, 1, 2]);
    }

    #[test]
    fn several_roots_share_what_they_both_need() {
        let lists: &[&[usize]] = &[&[2], &[2], &[]];
        assert_eq!(dependencies_first([0, 1, 0], edges(lists)), [2, 0, 1]);
        assert_eq!(breadth_first([1, 0, 1], edges(lists)), [1, 0, 2]);
    }

    #[test]
    fn a_chain_of_a_million_libraries_needs_no_native_stack() {
        let count = 1_000_000;
        let next: Vec<usize> = (1..=count).collect();
        let needed = |node: usize| {
            if node + 1 < count {
                &next[node..=node]
            } else {
                &[]
            }
        };
        let order = dependencies_first([0], needed);
        assert_eq!(order.len(), count);
        assert_eq!((order[0], order[count - 1]), (count - 1, 0));
        assert_eq!(breadth_first([0], needed).len(), count);
    }
}
