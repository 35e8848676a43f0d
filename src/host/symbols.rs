//! The kernel as the dynamic linker sees it: WASI's functions by name, and library files from the mounts.

#![forbid(unsafe_code)]

use super::errno::Errno;
use super::fs::FileType;
use super::kernel::Kernel;
use super::paths::At;
use super::wasi;
use crate::link::{Files, FoundFile, HostSymbols, Process};
use crate::module::FuncType;
use crate::runtime::{AsContext, Func, StoreContextMut};
use std::io;

/// Store data that have a kernel.
pub trait KernelHost: 'static {
    /// The kernel.
    fn kernel(&mut self) -> &mut Kernel;
}

impl KernelHost for Kernel {
    fn kernel(&mut self) -> &mut Kernel {
        self
    }
}

/// WASI's functions for the linker. They work on the memory of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct WasiSymbols;

impl<T: KernelHost> HostSymbols<T> for WasiSymbols {
    fn function(
        &self,
        process: &Process<T>,
        mut store: StoreContextMut<'_, T>,
        module: &str,
        name: &str,
        ty: &FuncType,
    ) -> Option<Func> {
        let process = process.clone();
        // The process gets its memory while it is loaded, and its constructors may call functions of ours.
        let func = wasi::lookup(&mut store, module, name, move |data: &mut T| {
            let kernel = data.kernel();
            if kernel.memory().is_none()
                && let Some(memory) = process.memory()
            {
                kernel.set_memory(memory);
            }
            kernel
        })?;
        (func.ty(store.as_context()) == *ty).then_some(func)
    }

    fn signature(&self, module: &str, name: &str) -> Option<FuncType> {
        wasi::signature(module, name)
    }
}

/// Library files from the guest's own tree: a library can come only from where the guest could read it.
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelFiles;

impl<T: KernelHost> Files<T> for KernelFiles {
    fn find(&self, data: &mut T, path: &str) -> io::Result<Option<FoundFile>> {
        let kernel = data.kernel();
        let identity = match kernel.real_path(path) {
            Ok(identity) => identity,
            Err(errno) => return Err(io_error(errno)),
        };
        let metadata = kernel
            .metadata_at(At::Root, &identity, true)
            .map_err(io_error)?;
        let is_file = metadata.file_type == FileType::RegularFile;
        // The guest may change its working directory; the library's own directory must not change with it (N3).
        let path = match path.strip_prefix('/') {
            Some(_) => path.to_owned(),
            None => {
                let directory = kernel.working_directory().trim_end_matches('/');
                format!("{directory}/{}", path.trim_start_matches("./"))
            }
        };
        Ok(is_file.then_some(FoundFile { path, identity }))
    }

    fn read(&self, data: &mut T, file: &FoundFile, limit: usize) -> io::Result<Vec<u8>> {
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        data.kernel()
            .read_file(&file.identity, limit)
            .map_err(io_error)
    }

    fn list(&self, data: &mut T, directory: &str) -> io::Result<Vec<String>> {
        let entries = data.kernel().list_directory(directory).map_err(io_error)?;
        Ok(entries.into_iter().map(|entry| entry.name).collect())
    }
}

fn io_error(errno: Errno) -> io::Error {
    let kind = match errno {
        Errno::Noent => io::ErrorKind::NotFound,
        Errno::Notdir => io::ErrorKind::NotADirectory,
        Errno::Acces | Errno::Perm | Errno::Notcapable => io::ErrorKind::PermissionDenied,
        Errno::Nametoolong => io::ErrorKind::InvalidFilename,
        Errno::Fbig => io::ErrorKind::FileTooLarge,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, errno)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{KernelBuilder, Mount};

    #[test]
    fn a_library_keeps_its_directory_when_the_guest_changes_its_own() {
        let host = tempfile::tempdir().unwrap();
        std::fs::create_dir(host.path().join("sub")).unwrap();
        std::fs::write(host.path().join("sub/a.so"), b"a").unwrap();
        let mut kernel = KernelBuilder::new()
            .mount("/app", Mount::host(host.path()).unwrap())
            .working_directory("/app")
            .build()
            .unwrap();
        let mut find = |path: &str| {
            let found = Files::<Kernel>::find(&KernelFiles, &mut kernel, path);
            found.unwrap().unwrap().path
        };
        assert_eq!(find("./sub/a.so"), "/app/sub/a.so");
        assert_eq!(find("sub/../sub/a.so"), "/app/sub/../sub/a.so");
        assert_eq!(find("/app/sub/a.so"), "/app/sub/a.so");
        kernel.set_working_directory("/app/sub").unwrap();
        let found = Files::<Kernel>::find(&KernelFiles, &mut kernel, "a.so");
        assert_eq!(found.unwrap().unwrap().path, "/app/sub/a.so");
    }
}
