-- Courses whose resources a person put back from quarantine: nothing of them goes before this time.
CREATE TABLE course_gc.exemptions (
    course_id   text COLLATE "C" PRIMARY KEY,
    until       timestamptz NOT NULL,
    restored_by text NOT NULL,
    restored_at timestamptz NOT NULL
);
