// One act at a time: a button that waits, and the problem it ended with.
import { asProblem, type Problem } from "./api/problem";

export class Act {
  busy = $state(false);
  problem = $state.raw<Problem>();

  /** Runs it unless one is running; says whether it succeeded. */
  async run(act: () => Promise<void>): Promise<boolean> {
    if (this.busy) return false;
    this.busy = true;
    this.problem = undefined;
    try {
      await act();
      return true;
    } catch (thrown) {
      this.problem = asProblem(thrown);
      return false;
    } finally {
      this.busy = false;
    }
  }
}

class Announcer {
  text = $state("");

  /** Says it on the page's live region, where screen readers hear it and others see it. */
  say(text: string): void {
    this.text = text;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => (this.text = ""), 8000);
  }

  #timer: ReturnType<typeof setTimeout> | undefined;
}

export const announcer = new Announcer();
