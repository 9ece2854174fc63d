"""GL-AT: a global stream takes the clip, a local stream the sub-clips that the first selects; any backbone.

Wang et al., 2021, tables 1 and 2 and figure 2. mAP with GL-AT on all of AudioSet, and of the backbone alone as
reproduced there: TALNet .401 (.368), CNN10 .408 (.382), ResNet38 .438 (.429), AT-SCA .413 (.392).
`--streams global` trains the backbone alone in the same way. The sources differ in how the streams are coupled:
`--share` and `--frame-scores` have each reading; `kerastag.models.gl_at` says which source has which.
"""

from kerastag.recipes._two_streams import two_stream_recipe

RECIPE = two_stream_recipe("gl_at", __doc__)
main = RECIPE.main

if __name__ == "__main__":
    raise SystemExit(main())
