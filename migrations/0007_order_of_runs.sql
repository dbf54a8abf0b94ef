-- In which order runs began, whatever the database's clock says: the latest one writes, and nobody before it.
ALTER TABLE course_gc.runs ADD COLUMN ordinal bigint GENERATED ALWAYS AS IDENTITY;
CREATE UNIQUE INDEX runs_ordinal ON course_gc.runs (ordinal);
