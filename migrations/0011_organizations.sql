-- Whose a course is, learned while it lives: a caller that is bound to an organization may ask for its courses only. Empty: no
-- liveness source tells.
ALTER TABLE course_gc.known_ids ADD COLUMN organization text;
CREATE INDEX known_ids_without_organization ON course_gc.known_ids (course_id) WHERE organization IS NULL AND departed_at IS NULL;
