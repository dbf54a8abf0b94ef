//! Objects of the bucket: enrichments, as the platform keeps them in its newer installations. The course is the first part of a
//! name.

use super::{
    CourseId, IdKind, Owner,
    plan::{Planner, parted},
    traps::uncanonical,
};

pub(super) fn plan(planner: &mut Planner) {
    let courses: Vec<CourseId> = planner.campus.courses.iter().map(|course| course.id).collect();
    for id in courses.into_iter().chain(planner.campus.foreign.clone()) {
        let (lesson, enrichment) = (planner.random.uuid(), planner.random.uuid());
        planner.object(format!("{id}/card.webp"), Owner::Course(id));
        planner.object(format!("{id}/{lesson}/{enrichment}.webp"), Owner::Course(id));
    }
    let (doomed, staying) = parted(&planner.campus);
    for (dead, live) in doomed.iter().zip(&staying).take(2) {
        let (dead, live) = (dead.id, live.id);
        // Beneath a live course, whatever its name says besides.
        planner.object(format!("{live}/copied-from/{dead}/card.webp"), Owner::Course(live));
        // Numbers stand everywhere in names, so only other ids can be found anywhere in them.
        if planner.campus.size.ids != IdKind::Integer {
            planner.object(format!("{dead}/copied-to/{live}/card.webp"), Owner::Courses(vec![dead, live]));
        }
        for text in uncanonical(dead) {
            planner.object(format!("{text}/card.webp"), Owner::Unrecognised);
        }
        // Where a folder of the course's would be, and none.
        planner.object(format!("{dead}.zip"), Owner::Nobody);
    }
    let user = planner.random.uuid();
    planner.object(format!("avatars/{user}.webp"), Owner::Unrecognised);
    planner.object("favicon.ico".to_owned(), Owner::Nobody);
}
