//! What is nearly a symbol that nobody defines: the same name where it is not seen, the same C++ name with other
//! parameters, a name with a few other letters.
//!
//! Names come from files, so the search has a budget of names that it looks at, and only short names are compared
//! letter by letter.
#![forbid(unsafe_code)]

use super::object::ObjectId;
use super::problems::{Near, SymbolKind, WantedSymbol};
use super::state::View;
use super::symbols::{Symbol, SymbolTable, is_internal};
use crate::module::FuncType;
use crate::shown::{shortened, shown};

/// Names that are looked at for all problems of a failed load.
pub(super) const BUDGET: usize = 2_000_000;

/// The same for a dry run, which somebody asked for.
pub(super) const DRY_BUDGET: usize = 20_000_000;

/// Longer names are compared only as a whole.
const MAX_NAME: usize = 96;

/// Suggestions for one symbol.
const MAX_NEAR: usize = 3;

/// What was found.
pub(super) struct Nearness {
    pub list: Vec<Near>,
    /// What to do, if what was found tells.
    pub remedy: Option<String>,
}

/// How near a name is; the smallest is the best.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Nearby {
    /// The same name.
    Same,
    /// One is the C++ name of the other, or they differ in their C++ parameters.
    CPlusPlus { linkage: bool },
    /// So many letters are other ones.
    Letters(usize),
}

/// Looks for what is near, in all objects.
pub(super) fn search(
    view: &View<'_>,
    importer: ObjectId,
    wanted: &WantedSymbol,
    host: Option<FuncType>,
    budget: &mut usize,
) -> Nearness {
    let mut found: Vec<(Nearby, Near, Option<String>)> = Vec::new();
    if let Some(ty) = host {
        let why = difference(wanted.ty.as_ref(), Some(&ty))
            .unwrap_or_else(|| "only its address is wanted".into());
        let near = Near {
            provider: "the host".into(),
            name: shortened(&wanted.name).into_owned(),
            ty: Some(ty),
            why,
        };
        let remedy = format!(
            "declare `{}` with the signature that the host gives it",
            shown(&wanted.name)
        );
        found.push((Nearby::Same, near, Some(remedy)));
    }
    for id in view.objects() {
        let Some(table) = view.symbols(id) else {
            continue;
        };
        search_object(
            view.name(id),
            id == importer,
            table,
            wanted,
            budget,
            &mut found,
        );
    }
    found.sort_by_key(|(nearby, ..)| *nearby);
    found.truncate(MAX_NEAR);
    let remedy = found.first().and_then(|(.., remedy)| remedy.clone());
    Nearness {
        list: found.into_iter().map(|(_, near, _)| near).collect(),
        remedy,
    }
}

fn search_object(
    provider: &str,
    is_importer: bool,
    table: &SymbolTable,
    wanted: &WantedSymbol,
    budget: &mut usize,
    found: &mut Vec<(Nearby, Near, Option<String>)>,
) {
    let module = table.module();
    let names = module.0.funcs.len();
    if !is_importer
        && *budget > names
        && wanted.kind != SymbolKind::Data
        && module.get_export(&wanted.name).is_none()
        && let Some(func) = module.function_named(&wanted.name)
        && u32::try_from(module.0.imported_funcs).is_ok_and(|imported| func >= imported)
    {
        let near = Near {
            provider: shortened(provider).into_owned(),
            name: shortened(&wanted.name).into_owned(),
            ty: table.func_type(func).cloned(),
            why: "it is defined there, but not exported".into(),
        };
        let remedy = format!(
            "link `{}` with `--export={}`, or give the function default visibility",
            shown(provider),
            shown(&wanted.name)
        );
        found.push((Nearby::Same, near, Some(remedy)));
    }
    *budget = budget.saturating_sub(names);
    for export in module.0.exports() {
        if *budget == 0 {
            return;
        }
        *budget -= 1;
        let name = export
            .name
            .strip_prefix("__WASM_EXPORT__")
            .unwrap_or(export.name);
        let Some(nearby) = compare(&wanted.name, name) else {
            continue;
        };
        if is_internal(name) || (is_importer && nearby == Nearby::Same) {
            continue;
        }
        let symbol = table.lookup(name);
        let ty = match symbol {
            Some(Symbol::Function { func, .. }) => table.func_type(func).cloned(),
            _ => None,
        };
        let (why, remedy) = match (nearby, symbol) {
            (Nearby::Same, None) if table.is_wrapped(name) => continue,
            (Nearby::Same, None) => ("it is hidden, or only imported there".to_string(), None),
            (Nearby::Same, Some(_)) => (
                "it is not in the scope in which the symbol is looked for".to_string(),
                Some(format!(
                    "name `{}` among the needed libraries of the program, or open it with RTLD_GLOBAL before",
                    shown(provider)
                )),
            ),
            (_, None) => continue,
            (Nearby::CPlusPlus { linkage: true }, _) => (
                "one of the two is a C++ name".to_string(),
                Some(format!(
                    "declare the function `extern \"C\"` in both `{}` and its callers",
                    shown(provider)
                )),
            ),
            (Nearby::CPlusPlus { linkage: false }, _) => (
                "the C++ parameters differ".to_string(),
                Some(format!(
                    "build both sides with the same declaration of `{}`",
                    shown(&wanted.name)
                )),
            ),
            (Nearby::Letters(1), _) => ("one letter differs".to_string(), None),
            (Nearby::Letters(count), _) => (format!("{count} letters differ"), None),
        };
        let why = match (nearby, difference(wanted.ty.as_ref(), ty.as_ref())) {
            (Nearby::Letters(_), Some(difference)) => format!("{why}, {difference}"),
            _ => why,
        };
        let near = Near {
            provider: shortened(provider).into_owned(),
            name: shortened(name).into_owned(),
            ty,
            why,
        };
        found.push((nearby, near, remedy));
    }
}

/// Where two signatures differ, if they do.
pub(super) fn difference(wanted: Option<&FuncType>, defined: Option<&FuncType>) -> Option<String> {
    let (wanted, defined) = (wanted?, defined?);
    if wanted == defined {
        return None;
    }
    let differs = wanted
        .params()
        .iter()
        .zip(defined.params())
        .position(|(a, b)| a != b);
    Some(match differs {
        Some(place) => format!("the signature differs in parameter {}", place + 1),
        None if wanted.params().len() != defined.params().len() => {
            "the signature differs in the number of parameters".to_string()
        }
        None => "the signature differs in the result".to_string(),
    })
}

fn compare(wanted: &str, name: &str) -> Option<Nearby> {
    if wanted == name {
        return Some(Nearby::Same);
    }
    match (c_plus_plus_name(wanted), c_plus_plus_name(name)) {
        (Some(wanted), Some(name)) => {
            return (wanted == name).then_some(Nearby::CPlusPlus { linkage: false });
        }
        (Some(path), None) if is_single(path, name) => {
            return Some(Nearby::CPlusPlus { linkage: true });
        }
        (None, Some(path)) if is_single(path, wanted) => {
            return Some(Nearby::CPlusPlus { linkage: true });
        }
        _ => {}
    }
    let most = match wanted.len() {
        0..=3 => return None,
        4..=6 => 1,
        7..=12 => 2,
        _ => 3,
    };
    edit_distance(wanted.as_bytes(), name.as_bytes(), most).map(Nearby::Letters)
}

/// The qualified name within a C++ name, still encoded: what stands before the types of the parameters.
fn c_plus_plus_name(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("_Z")?;
    let (rest, nested) = match rest.strip_prefix('N') {
        Some(rest) => (rest.trim_start_matches(['r', 'V', 'K', 'R', 'O']), true),
        None => (rest, false),
    };
    let mut end = 0;
    loop {
        let tail = rest.get(end..)?;
        let digits = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if digits == 0 {
            break;
        }
        let length: usize = tail.get(..digits)?.parse().ok()?;
        end = end.checked_add(digits)?.checked_add(length)?;
        if end > rest.len() {
            return None;
        }
        if !nested {
            break;
        }
    }
    // Templates and constructors (`C1`), whose names go on, are compared as a whole only.
    let after = rest.get(end..)?;
    let complete = if nested {
        after.starts_with('E')
    } else {
        !after.starts_with('I')
    };
    (end > 0 && complete).then(|| rest.get(..end)).flatten()
}

/// Whether an encoded qualified name is just this name, without a namespace.
fn is_single(path: &str, name: &str) -> bool {
    path.strip_suffix(name)
        .is_some_and(|digits| digits.parse() == Ok(name.len()))
}

/// How many letters have to be inserted, removed, replaced or swapped with their neighbour, if at most `most`.
pub(crate) fn edit_distance(a: &[u8], b: &[u8], most: usize) -> Option<usize> {
    if a.len().max(b.len()) > MAX_NAME || a.len().abs_diff(b.len()) > most {
        return None;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (row, from) in a.iter().enumerate() {
        let mut current = Vec::with_capacity(b.len() + 1);
        current.push(row + 1);
        for (column, to) in b.iter().enumerate() {
            let at = |line: &[usize], place: usize| line.get(place).copied().unwrap_or(MAX_NAME);
            let mut best = (at(&last, column) + usize::from(from != to))
                .min(at(&last, column + 1) + 1)
                .min(at(&current, column) + 1);
            let swapped = row > 0
                && column > 0
                && a.get(row - 1) == Some(to)
                && b.get(column - 1) == Some(from);
            if swapped {
                best = best.min(at(&before_last, column - 1) + 1);
            }
            current.push(best);
        }
        if current.iter().min().is_some_and(|least| *least > most) {
            return None;
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last.last().copied().filter(|distance| *distance <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_counted_up_to_a_bound() {
        let distance = |a: &str, b: &str, most| edit_distance(a.as_bytes(), b.as_bytes(), most);
        assert_eq!(distance("strlen", "strlen", 1), Some(0));
        assert_eq!(distance("strlen", "strlne", 1), Some(1));
        assert_eq!(distance("strlen", "strnlen", 1), Some(1));
        assert_eq!(distance("strlen", "strchr", 2), None);
        assert_eq!(distance("kitten", "sitting", 3), Some(3));
        let long = "x".repeat(MAX_NAME + 1);
        assert_eq!(distance(&long, &long, 3), None);
    }

    #[test]
    fn short_names_are_never_near_by_letters() {
        assert_eq!(compare("abs", "ab"), None);
        assert_eq!(compare("read", "send"), None);
        assert_eq!(compare("read", "reads"), Some(Nearby::Letters(1)));
    }

    #[test]
    fn cpp_names_are_compared_without_their_parameters() {
        let parameters = Some(Nearby::CPlusPlus { linkage: false });
        let linkage = Some(Nearby::CPlusPlus { linkage: true });
        assert_eq!(compare("_Z3fooi", "_Z3food"), parameters);
        assert_eq!(compare("_ZN1a3fooEi", "_ZNK1a3fooEv"), parameters);
        assert_eq!(compare("_ZN1a3fooEi", "_ZN1b3fooEi"), None);
        assert_eq!(compare("foo", "_Z3fooi"), linkage);
        assert_eq!(compare("_Z3fooi", "foo"), linkage);
        assert_eq!(compare("bar", "_ZN1a3barEv"), None);
        assert_eq!(c_plus_plus_name("_Z99999999999999999999x"), None);
        assert_eq!(c_plus_plus_name("_Z5ab"), None);
        assert_eq!(c_plus_plus_name("_ZN"), None);
    }
}
