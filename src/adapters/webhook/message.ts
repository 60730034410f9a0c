import { ADVICE } from '../../domain/advice.ts';
import { splitWorkspaceKey } from '../../domain/name.ts';
import type { Reason } from '../../domain/reason.ts';
import type { Stand, Standing, Transition } from '../../domain/transition.ts';

/** Workspaces that a message tells of one by one; of the others it tells how many. */
export const LISTED = 50;
const LISTED_PLUGINS = 20;

/**
 * What is posted, as JSON. Keys are added and never renamed or taken away; `version` rises should that ever have to
 * happen. README, "Notifications", explains it to those who receive it.
 */
export interface Message {
  readonly version: 1;
  /** The same for every try to deliver it. */
  readonly id: string;
  /** ISO time at which it was made. */
  readonly at: string;
  /** Which controller says so: the id that its receipts carry. */
  readonly authority: string;
  readonly event: Standing;
  readonly reason: Reason;
  /** What a person does about the reason. */
  readonly help: string;
  /** One line for a chat. */
  readonly text: string;
  /** Workspaces that have come to this stand. */
  readonly count: number;
  /** The first of them. */
  readonly workspaces: readonly ToldWorkspace[];
}

export interface ToldWorkspace {
  readonly namespace: string;
  readonly name: string;
  /** `null`: nothing was known of it before. */
  readonly from: { readonly event: Standing; readonly reason: Reason } | null;
  readonly to: { readonly event: Standing; readonly reason: Reason };
  readonly message: string;
  readonly since: string;
  readonly summary: string;
  readonly plugins: Transition['plugins'];
}

export interface MessageStamp {
  readonly id: string;
  readonly at: string;
  readonly authority: string;
}

/** One message about transitions that all lead to the same stand. Pure. */
export function messageOf(transitions: readonly [Transition, ...Transition[]], stamp: MessageStamp): Message {
  const [{ to }] = transitions;
  return {
    version: 1,
    ...stamp,
    event: to.standing,
    reason: to.reason,
    help: ADVICE[to.reason],
    text: textOf(transitions, to),
    count: transitions.length,
    workspaces: transitions.slice(0, LISTED).map(told),
  };
}

function textOf(transitions: readonly [Transition, ...Transition[]], { standing, reason }: Stand): string {
  const [first] = transitions;
  const what = `${STANDING_WORDS[standing]} (${reason})`;
  if (transitions.length === 1) return `${first.workspace} ${what}: ${first.message}`;
  const some = transitions.slice(0, 3).map(({ workspace }) => workspace);
  const more = transitions.length > some.length ? ', …' : '';
  return `${transitions.length} workspaces ${what}: ${some.join(', ')}${more}`;
}

const STANDING_WORDS: Readonly<Record<Standing, string>> = {
  Ready: 'as declared',
  Drifted: 'changed on the target, and left so',
  NotReady: 'not as declared',
  Held: 'waiting for a word of a person',
  Stalled: 'stuck until a person acts',
  Idle: 'not worked on',
  Deleted: 'deleted',
};

function told({ workspace, from, to, message, since, summary, plugins }: Transition): ToldWorkspace {
  const { namespace, name } = splitWorkspaceKey(workspace);
  return {
    namespace,
    name,
    from: from === undefined ? null : { event: from.standing, reason: from.reason },
    to: { event: to.standing, reason: to.reason },
    message,
    since,
    summary,
    plugins: plugins
      .slice(0, LISTED_PLUGINS)
      .map((plugin) => ({ name: plugin.name, state: plugin.state, reason: plugin.reason, message: plugin.message })),
  };
}
