// How things are said.

/** Seconds as a person says them. */
export function duration(seconds) {
  const s = Math.max(1, Math.round(seconds));
  if (s < 60) return `${s} s`;
  const minutes = Math.floor(s / 60);
  if (minutes < 10) return s % 60 ? `${minutes} min ${s % 60} s` : `${minutes} min`;
  if (minutes < 60) return `${minutes} min`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** The length of a video of so many frames. */
export function length(frames, fps) {
  return frames === 1 ? "still" : `${Number((frames / fps).toFixed(1))} s`;
}

/** The API's words about a field as a sentence below it. */
export function sentence(message, param) {
  const text = param && message.startsWith(`${param} `) ? message.slice(param.length + 1) : message;
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

/** Where a job stands, in a few words; `left` is what remains in seconds, or null. */
export function standing(job, left) {
  const soon = left === null ? "" : left > 0.5 ? `${duration(left)} left` : "almost done";
  switch (job.status) {
    case "queued": {
      const turn = job.queue_position > 1 ? `Waiting, ${job.queue_position - 1} before it` : "Waiting, next";
      return together(job.attempt ? "Starting again" : turn, soon);
    }
    case "in_progress": {
      const stage = job.stage ? job.stage.replaceAll("_", " ") : "starting";
      const steps = job.steps > 1 ? ` ${job.step} of ${job.steps}` : "";
      return together(stage.charAt(0).toUpperCase() + stage.slice(1) + steps, soon);
    }
    case "failed":
      return "Failed";
    case "cancelled":
      return "Cancelled";
    default:
      return "";
  }
}

function together(...parts) {
  return parts.filter(Boolean).join(" \u00b7 ");
}
