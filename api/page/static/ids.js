// An id is its job's kind and a ULID, which sorts by time: video_01J..., image_01J....

export const KINDS = ["video", "image"];

export const kind = (id) => id.split("_")[0];

/** When the job was made, as something to compare. */
export const time = (id) => id.split("_")[1];

/** Where the API has the job. */
export const route = (id) => `v1/${kind(id)}s/${id}`;
