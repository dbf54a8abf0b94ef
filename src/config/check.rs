//! What the types cannot say: ranges, and fields that must fit each other.

use super::model::Config;
use super::read::Reader;

/// Records what is wrong with values that were read.
pub(super) fn check(_config: &Config, _reader: &mut Reader) {}
