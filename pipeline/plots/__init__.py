"""Every picture that the pipeline draws, as PNG files: same input, same bytes.

Nothing here knows where the numbers come from. Each function takes plain numbers, texts and pixels, draws one figure
and publishes it. A figure must stay readable for two classes and for hundreds of them: what does not fit is left out,
and the picture says so.
"""
