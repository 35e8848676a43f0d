//! Tests of the rows as a whole.

use super::table;
use super::{Emscripten, EmscriptenHost};
use crate::host::{Kernel, KernelHost};

struct Host {
    kernel: Kernel,
    emscripten: Emscripten,
}

impl KernelHost for Host {
    fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }
}

impl EmscriptenHost for Host {
    fn emscripten(&mut self) -> (&mut Kernel, &mut Emscripten) {
        (&mut self.kernel, &mut self.emscripten)
    }
}

#[test]
fn a_name_with_one_signature_can_have_its_address_taken() {
    let ty = table::signature::<Host>("env", "emscripten_resize_heap").unwrap();
    assert_eq!(ty.params().len(), 1);
    assert!(table::signature::<Host>("env", "_mmap_js").is_none());
    assert!(table::knows::<Host>("_mmap_js"));
}
