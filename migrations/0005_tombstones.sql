-- Liveness sources whose tombstones are all younger than what we know of the living: each course that a run saw live had its
-- tombstones removed in that run. Where this was interrupted, or not done, nobody knows which of the two came first.
CREATE TABLE course_gc.settled_tombstones (
    source text PRIMARY KEY
);
