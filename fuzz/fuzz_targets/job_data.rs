#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| course_gc_fuzz::job_data::check(input));
