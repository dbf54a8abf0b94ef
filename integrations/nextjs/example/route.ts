// app/api/courses/[courseId]/route.ts

import { deleteCourse, type Platform } from "../delete-course.js";

declare const platform: Platform; // the application's own
declare const process: { env: Record<string, string | undefined> }; // Node's; in an application @types/node declares it

export const DELETE = deleteCourse(platform, {
  url: process.env.COURSE_GC_URL ?? "http://course-gc:9090",
  token: process.env.COURSE_GC_TOKEN ?? "",
});
