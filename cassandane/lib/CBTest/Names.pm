# SPDX-License-Identifier: BSD-3-Clause
# Copyright (c) 2026 The Cyrus Backups authors
#
# CBTest::Names - one mailbox, three names: the internal one, which replication and the backup
# use (example.com!user.j^doe.Work), the administrator's (user/j.doe/Work@example.com) and that
# of the user who has logged in (Work). What they look like depends on unixhierarchysep,
# altnamespace and virtdomains of the server. Written for the tests, from what imapd shows.
package CBTest::Names;
use strict;
use warnings;

# Options of imapd.conf as a hash.
sub new
{
    my ($class, %o) = @_;
    my $yes = sub { return scalar(($_[0] // 'no') =~ /^(?:yes|on|true|t|1)$/) };
    return bless {
        slash => $yes->($o{unixhierarchysep}),
        alt => $yes->($o{altnamespace}),
        domains => ($o{virtdomains} // 'off') ne 'off',
    }, $class;
}

# The hierarchy separator that users see.
sub separator { return $_[0]{slash} ? '/' : '.' }

# (domain or '', the rest) of an internal name.
sub parts
{
    my ($self, $name) = @_;
    return $self->{domains} && $name =~ /^([^!]+)!(.*)\z/s ? ($1, $2) : ('', $name);
}

sub outward
{
    my ($self, $text) = @_;
    $text =~ tr{.^}{/.} if $self->{slash};
    return $text;
}

sub inward
{
    my ($self, $text) = @_;
    $text =~ tr{/.}{.^} if $self->{slash};
    return $text;
}

# The internal name of a user's INBOX.
sub inbox
{
    my ($self, $user) = @_;
    my ($local, $domain) = $self->{domains} && $user =~ /^(.*)\@([^@]+)\z/s ? ($1, $2) : ($user, '');
    $local =~ tr/./^/;
    return ($domain eq '' ? '' : "$domain!") . "user.$local";
}

# The internal name of one of a user's folders: folder('alice', 'Work.2025').
sub folder
{
    my ($self, $user, $path) = @_;
    return $self->inbox($user) . ($path eq '' ? '' : ".$path");
}

# Whose mailbox it is; undef for those of nobody and for deleted ones.
sub owner
{
    my ($self, $name) = @_;
    my ($domain, $rest) = $self->parts($name);
    return undef unless $rest =~ /^user\.([^.]+)/;
    (my $local = $1) =~ tr/^/./;
    return $domain eq '' ? $local : "$local\@$domain";
}

sub for_admin
{
    my ($self, $name) = @_;
    my ($domain, $rest) = $self->parts($name);
    return $self->outward($rest) . ($domain eq '' ? '' : "\@$domain");
}

sub from_admin
{
    my ($self, $name) = @_;
    my $domain = $self->{domains} && $name =~ s/\@([^@]+)\z// ? "$1!" : '';
    return $domain . $self->inward($name);
}

sub for_user
{
    my ($self, $user, $name) = @_;
    my $inbox = $self->inbox($user);
    my ($domain, $rest) = $self->parts($name);
    my $sep = $self->separator;
    if ($name =~ /^\Q$inbox\E(?:\.(.*))?\z/s) {
        return 'INBOX' unless defined $1;
        return ($self->{alt} ? '' : "INBOX$sep") . $self->outward($1);
    }
    return $self->outward($rest) unless $self->{alt};
    return "Other Users$sep" . $self->outward($1) if $rest =~ /^user\.(.*)\z/s;
    return "Shared Folders$sep" . $self->outward($rest);
}

sub from_user
{
    my ($self, $user, $name) = @_;
    my $inbox = $self->inbox($user);
    my ($domain) = $self->parts($inbox);
    my $before = $domain eq '' ? '' : "$domain!";
    my $sep = $self->separator;
    return $inbox if uc $name eq 'INBOX';
    if ($self->{alt}) {
        return $before . 'user.' . $self->inward($1) if $name =~ /^Other Users\Q$sep\E(.*)\z/s;
        return $before . $self->inward($1) if $name =~ /^Shared Folders\Q$sep\E(.*)\z/s;
        return "$inbox." . $self->inward($name);
    }
    return "$inbox." . $self->inward($1) if $name =~ /^INBOX\Q$sep\E(.*)\z/is;
    return $before . $self->inward($name);
}

1;
