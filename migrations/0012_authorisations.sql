-- Courses of which a caller may have everything deleted though they live (S1): each for one run, at most so many within an hour.
CREATE TABLE course_gc.authorisations (
    request_id    uuid PRIMARY KEY,
    course_id     text COLLATE "C" NOT NULL,
    authorised_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The run that acts upon it, and none else.
    used_by       uuid
);
CREATE INDEX authorisations_at ON course_gc.authorisations (authorised_at);
