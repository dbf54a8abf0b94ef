//! course-gc
