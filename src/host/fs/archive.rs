//! placeholder
use super::Directory;
use std::path::Path;
use std::sync::Arc;
pub(crate) fn open(_: &Path) -> crate::error::Result<Arc<dyn Directory>> {
    Err(crate::error::Error::msg("todo"))
}
pub(crate) fn from_bytes(_: Arc<[u8]>) -> crate::error::Result<Arc<dyn Directory>> {
    Err(crate::error::Error::msg("todo"))
}
