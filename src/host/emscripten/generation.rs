//! Which version of emscripten a program comes from, as far as layouts in memory depend on it.
//!
//! Three layouts of `struct stat` and two sizes of `time_t` are in use. No program says its version; but every version has
//! imports that others lack, and a program that passes such structures imports some of them.

#![forbid(unsafe_code)]

use crate::module::FuncType;

/// Versions between which layouts did not change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Generation {
    /// Up to 3.1.16: `time_t` has 32 bits.
    Time32,
    /// 3.1.17 to 3.1.41: `time_t` has 64 bits, `struct stat` still has fields that nobody uses.
    Padded,
    /// From 3.1.42 on.
    Current,
}

impl Generation {
    /// Bytes of a `struct timespec`.
    pub fn timespec_size(self) -> u32 {
        match self {
            Generation::Time32 => 8,
            Generation::Padded | Generation::Current => 16,
        }
    }
}

/// Imports by which versions are told apart.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Marks {
    /// `__syscall_open` and others that are gone from version 3.1.17 on.
    oldest: bool,
    /// `emscripten_memcpy_big`, up to 3.1.42.
    memcpy_big: bool,
    /// `setTempRet0` or `getTempRet0`, which came from the host until they became the guest's own.
    temp_ret0: bool,
    /// `__syscall_openat` as the way to open files, or other names of newer versions.
    newer: bool,
}

impl Marks {
    /// Learns from an import.
    pub fn note(&mut self, name: &str, ty: &FuncType) {
        match name {
            "__syscall_open"
            | "__syscall_fstatat64"
            | "__clock_gettime"
            | "__syscall_mkdir"
            | "__syscall_unlink"
            | "__syscall_rename"
            | "__syscall_fadvise64_64" => {
                self.oldest = true;
            }
            "emscripten_memcpy_big" => self.memcpy_big = true,
            "setTempRet0" | "getTempRet0" => self.temp_ret0 = true,
            "__syscall_openat"
            | "__syscall_newfstatat"
            | "_emscripten_memcpy_js"
            | "emscripten_memcpy_js"
            | "_abort_js" => self.newer = true,
            // With two parameters it is of version 3.1.31 or before, which tells nothing.
            "_dlsym_js" if ty.params().len() == 3 => self.newer = true,
            _ => {}
        }
    }

    pub fn generation(self) -> Generation {
        match self {
            Marks { oldest: true, .. } => Generation::Time32,
            Marks {
                memcpy_big: true,
                newer: true,
                ..
            } => Generation::Padded,
            Marks {
                memcpy_big: true, ..
            }
            | Marks {
                temp_ret0: true,
                newer: false,
                ..
            } => Generation::Time32,
            _ => Generation::Current,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::module::ValType;

    fn generation(names: &[&str]) -> Generation {
        let mut marks = Marks::default();
        for name in names {
            marks.note(name, &FuncType::new([ValType::I32; 3], [ValType::I32]));
        }
        marks.generation()
    }

    #[test]
    fn versions_are_told_apart_by_their_imports() {
        // Imports of programs that call fopen and stat, of 3.1.6, 3.1.30, 3.1.58 and 5.0.3.
        assert_eq!(
            generation(&[
                "__syscall_open",
                "__syscall_openat",
                "emscripten_memcpy_big",
                "setTempRet0"
            ]),
            Generation::Time32
        );
        assert_eq!(
            generation(&[
                "__syscall_openat",
                "__syscall_stat64",
                "emscripten_memcpy_big"
            ]),
            Generation::Padded
        );
        assert_eq!(
            generation(&[
                "__syscall_openat",
                "__syscall_stat64",
                "emscripten_memcpy_js"
            ]),
            Generation::Current
        );
        assert_eq!(
            generation(&["__syscall_openat", "__syscall_stat64", "_abort_js"]),
            Generation::Current
        );
        assert_eq!(
            generation(&["__syscall_stat64", "emscripten_memcpy_big"]),
            Generation::Time32
        );
        assert_eq!(generation(&["__syscall_stat64"]), Generation::Current);
        // Of 3.1.30 again; two parameters were those of 3.1.6 already.
        let mut marks = Marks::default();
        marks.note(
            "_dlsym_js",
            &FuncType::new([ValType::I32; 2], [ValType::I32]),
        );
        for name in ["__syscall_openat", "emscripten_memcpy_big"] {
            marks.note(name, &FuncType::new([ValType::I32; 4], [ValType::I32]));
        }
        assert_eq!(marks.generation(), Generation::Padded);
    }
}
