//! The API, asked over HTTP as the platform's own programs would, with `course-gc serve` behind it.

mod at_once;
mod cleanup;
mod crowd;
mod described;
mod manage;
mod replayed;
mod scene;
mod secured;
mod who;
