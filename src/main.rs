//! course-gc
fn main() {}
