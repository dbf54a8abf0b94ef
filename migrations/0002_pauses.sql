-- Who asked every replica to delete nothing, and why. One without an end is in force.
CREATE TABLE course_gc.pauses (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    reason     text NOT NULL,
    paused_by  text NOT NULL,
    paused_at  timestamptz NOT NULL DEFAULT now(),
    resumed_by text,
    resumed_at timestamptz
);
CREATE UNIQUE INDEX pauses_in_force ON course_gc.pauses ((true)) WHERE resumed_at IS NULL;
