// Who is signed in, for both entries.
import { api, ask, onSignedOut, speakAs } from "./api/client";
import { asProblem, Problem } from "./api/problem";
import type { Installation, Session } from "./api/types";

class SessionState {
  /** Undefined until asked; null when nobody is signed in. */
  current = $state.raw<Session | null>();
  installation = $state.raw<Installation>();
  problem = $state.raw<Problem>();

  constructor() {
    onSignedOut(() => (this.current = null));
  }

  get name(): string {
    return this.installation?.name ?? "Wicketgate";
  }

  async start(): Promise<void> {
    this.problem = undefined;
    try {
      this.installation = await ask(api.GET("/api/v1/installation"));
      this.current = await ask(api.GET("/api/v1/sessions/current")).catch((thrown: unknown) => {
        if (thrown instanceof Problem && thrown.status === 401) return null;
        throw thrown;
      });
    } catch (thrown) {
      this.problem = asProblem(thrown);
    }
  }

  async signIn(email: string, password: string): Promise<void> {
    this.current = await ask(api.POST("/api/v1/sessions", { body: { email, password } }));
  }

  /** A token lasts until the page is left; it is never stored. */
  async useToken(token: string): Promise<void> {
    speakAs(token);
    try {
      this.current = await ask(api.GET("/api/v1/sessions/current"));
    } catch (thrown) {
      speakAs(undefined);
      throw thrown;
    }
  }

  async signOut(): Promise<void> {
    // A token is only forgotten here: programs may still use it.
    if (this.current?.kind === "token") speakAs(undefined);
    else await ask(api.DELETE("/api/v1/sessions/current"));
    this.current = null;
  }
}

export const session = new SessionState();
