-- Pods that are made from templates, the phases that a pod has passed, and the stages of its limits.

CREATE TABLE pods (                            -- further instances of the project that POD names
    pod            text PRIMARY KEY CHECK (pod ~ '^[a-z][a-z0-9-]{0,15}$'),
    base           text NOT NULL CHECK (base <> pod), -- whose variables, and so whose keys, it has
    settings       jsonb NOT NULL,             -- its own variables, as texts; never a secret
    may_trade_live boolean NOT NULL DEFAULT false,
    created_at     timestamptz NOT NULL,
    created_by     text NOT NULL,
    removed_at     timestamptz                 -- its runs end at once; what it holds stays its own
);
CREATE INDEX ON pods (base);

CREATE TABLE pod_workflows (                   -- by which a run knows of which pod it is
    pod         text NOT NULL REFERENCES pods,
    workflow    text NOT NULL,
    workflow_id text UNIQUE,                   -- null: asked for, and nobody knows yet if it was made
    asked_at    timestamptz NOT NULL,
    PRIMARY KEY (pod, workflow)
);

CREATE TABLE phases (                          -- what was passed, when, and on what evidence
    phase_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pod       text NOT NULL,
    phase     text NOT NULL CHECK (phase IN ('setup', 'install', 'test', 'live')),
    passed_at timestamptz NOT NULL,
    passed_by text NOT NULL,
    build     text NOT NULL,
    evidence  jsonb NOT NULL
);
CREATE INDEX ON phases (pod, phase, passed_at DESC);

CREATE TABLE live_stages (                     -- each a step that a person has raised the limits by
    pod       text NOT NULL,
    stage     integer NOT NULL CHECK (stage > 1),     -- the first is in force without a row
    raised_at timestamptz NOT NULL,
    raised_by text NOT NULL,
    evidence  jsonb NOT NULL,
    PRIMARY KEY (pod, stage)
);
