/* SPDX-License-Identifier: Apache-2.0 */
/* No owner gets all of what is for everybody, and whoever comes later finds something. */
#include "host/sandbox/share.h"

#include <criterion/criterion.h>
#include <stdio.h>

enum { ALL = 2048 };

static size_t take_all(struct share *s, const char *owner)
{
	size_t n = 0;

	while (n <= ALL && share_take(s, owner))
		n++;
	return n;
}

static void give_back(struct share *s, const char *owner, size_t n)
{
	while (n--)
		share_leave(s, owner);
}

Test(share, one_leaves_a_quarter_and_the_next_a_quarter_of_it)
{
	size_t greedy, second, third, n;
	struct share s;

	share_init(&s, ALL);
	greedy = take_all(&s, "greedy");
	cr_assert_eq(greedy, ALL / 4 * 3);
	second = take_all(&s, "");
	cr_assert_geq(second, ALL / 4 / 4 * 3, "%zu", second);
	third = take_all(&s, "third");
	cr_assert_gt(third, 0);
	cr_assert_not(share_take(&s, "greedy"), "it has most, and gets nothing more");
	/* What comes free goes to those that have less, for as long as they want it. */
	give_back(&s, "greedy", greedy / 2);
	n = take_all(&s, "third");
	cr_assert_gt(n, 100, "%zu", n);
	cr_assert_not(share_take(&s, "greedy"));
	give_back(&s, "third", third + n);
	give_back(&s, "", second);
	give_back(&s, "greedy", greedy - greedy / 2);
	cr_assert_eq(s.used, 0);
	cr_assert_eq(s.by_owner.len, 0, "of whom has nothing nothing is kept");
	cr_assert_eq(take_all(&s, "other"), ALL / 4 * 3);
	give_back(&s, "other", ALL / 4 * 3);
	share_fini(&s);
}

Test(share, many_owners_never_have_more_than_there_are)
{
	struct share s;
	size_t i, all = 0, n, first = 0;
	char owner[16];

	share_init(&s, ALL);
	for (i = 0; i < 100; i++) {
		snprintf(owner, sizeof(owner), "k%zu", i);
		n = take_all(&s, owner);
		first = i ? first : n;
		cr_assert_leq(n, first);
		all += n;
	}
	cr_assert_leq(all, ALL);
	cr_assert_eq(s.used, all);
	share_fini(&s);
}
