//! Course ids that can be told by their number, so that a row's two sides need no list of them.

use uuid::{Builder, Uuid};

/// The id of the nth course: as random as a UUID is, the same in every process.
pub fn course(n: u64) -> Uuid {
    let half = |salt: u64| mixed(n.wrapping_add(salt)).to_be_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&half(0x0b5a_6f0e_4d7c_4a39));
    bytes[8..].copy_from_slice(&half(0x9a43_6d7a_5f0d_0000));
    Builder::from_random_bytes(bytes).into_uuid()
}

/// The finalizer of splitmix64: a bijection, so that no two numbers give one id.
fn mixed(n: u64) -> u64 {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
